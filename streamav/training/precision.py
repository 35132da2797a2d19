"""Decides in which precision a training step computes, and takes the step in it: forward, backward, optimiser.

The weights, their gradients, the optimiser's moments and the loss are float32 in every precision. It knows no data and no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from streamav.networks.heads import LocalizerOutput

__all__ = ["MixedStep", "Precision", "resolved"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def resolved(precision: Precision, device: torch.device) -> Precision:
    """Give the precision that *precision* means on *device*: never auto.

    On a CPU auto is bfloat16 where the processor multiplies it itself (AVX512-BF16, which every processor with AMX-BF16 has too), and
    float32 elsewhere: without the instruction bfloat16 is emulated and slower than float32. The processor is asked and nothing is
    timed, so that a run which is resumed on the same machine, busy or not, goes on in the same precision. On a GPU auto is bfloat16
    where the GPU has it (compute capability 8.0 and up), and float16 elsewhere.

    Raises:
        SettingsError: for float16 on a CPU, whose small numbers nothing there would scale.
    """
    if device.type == "cpu":
        if precision == "float16":
            msg = "train.precision must be auto, float32 or bfloat16 on a CPU, got float16; use --device cuda for it"
            raise SettingsError(msg)
        if precision != "auto":
            return precision
        return "bfloat16" if _multiplies_bfloat16() else "float32"
    if precision != "auto":
        return precision
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _multiplies_bfloat16() -> bool:
    """Tell whether this processor has an instruction that multiplies bfloat16; False where torch cannot tell."""
    ask = getattr(torch.cpu, "get_capabilities", None)  # not in every torch of our range
    return bool(ask is not None and ask().get("avx512_bf16", False))


class MixedStep:
    """Forward, backward and update of one training step in one precision.

    On a CPU bfloat16 is a matter of the attention's large products alone (`attention_type`, for `fast_attention`), which are nearly all of
    a step; on a GPU torch's autocast sees to every product, and float16 gradients are scaled so that small ones do not vanish.
    """

    def __init__(self, precision: Precision, device: torch.device, *, autocast: bool | None = None) -> None:
        """Set up for *precision*, which is not auto; *autocast* None for: on a GPU only."""
        self._device = device.type
        self._type = cast("torch.dtype", getattr(torch, precision))
        self._autocast = (device.type != "cpu" if autocast is None else autocast) and self._type != torch.float32
        # Source of scaling: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._type == torch.float16)

    @property
    def attention_type(self) -> torch.dtype:
        """Give the type that `fast_attention` multiplies in, on a CPU."""
        return torch.float32 if self._autocast or self._type == torch.float16 else self._type

    def forward(self, network: nn.Module, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Ask *network*; whatever it computed in, the answer is float32, so that every loss is too."""
        with torch.autocast(self._device, self._type, enabled=self._autocast):
            output: LocalizerOutput = network(audio, visual)
        if not self._autocast:
            return output
        return output._replace(**{name: value.float() for name, value in output._asdict().items() if value is not None})

    def backward(self, total: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float) -> None:
        """Take gradients and the optimiser's step; a step whose float16 gradients overflow is left out and the scale is lowered.

        Args:
            total: the loss.
            optimizer: of *parameters*; its gradients are None or zero before.
            parameters: whose gradients *clip_norm* is the largest norm of, all together; 0 for no limit.
            clip_norm: see *parameters*.
        """
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if clip_norm > 0.0:
            self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, float]:
        """Give what a resumed run must know of the scale; empty where nothing is scaled."""
        return {name: float(value) for name, value in self.scaler.state_dict().items()}

    def restore(self, state: dict[str, float]) -> None:
        """Put back what `state` gave."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(
                {**state, "growth_interval": int(state["growth_interval"]), "_growth_tracker": int(state["_growth_tracker"])}
            )
