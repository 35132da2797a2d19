"""Chooses the precision of a training step and runs the step in it: forward, backward and optimiser.

The weights, their gradients, the optimiser's moments and the loss are float32 in every precision. Data and the training loop are not
handled here.
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
    """Return the precision that *precision* means on *device*; the result is never auto.

    On a CPU, auto means bfloat16 if the processor has an instruction that multiplies bfloat16 (AVX512-BF16, which every processor with
    AMX-BF16 has too), and float32 otherwise. Without this instruction, bfloat16 is emulated and slower than float32. The choice depends
    on the processor's features and on no timing: a run that is resumed on the same machine, busy or idle, continues in the same
    precision. On a GPU, auto means bfloat16 if the GPU has it (compute capability 8.0 and higher), and float16 otherwise.

    Raises:
        SettingsError: for float16 on a CPU, where gradients are not scaled and small ones would vanish.
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
    """Return whether this processor has an instruction that multiplies bfloat16; False if torch cannot find out."""
    ask = getattr(torch.cpu, "get_capabilities", None)  # some supported versions of torch do not have it
    return bool(ask is not None and ask().get("avx512_bf16", False))


class MixedStep:
    """Forward, backward and update of one training step in one precision.

    On a CPU, bfloat16 is used only for the attention's large products (`attention_type`, for `fast_attention`), which are nearly all
    the work of a step. On a GPU, torch's autocast handles every product, and float16 gradients are scaled so that small ones do not
    vanish.
    """

    def __init__(self, precision: Precision, device: torch.device, *, autocast: bool | None = None) -> None:
        """Prepare steps in *precision*, which must not be auto; *autocast* None means autocast on a GPU only."""
        self._device = device.type
        self._type = cast("torch.dtype", getattr(torch, precision))
        self._autocast = (device.type != "cpu" if autocast is None else autocast) and self._type != torch.float32
        # Source of scaling: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._type == torch.float16)

    @property
    def attention_type(self) -> torch.dtype:
        """Return the number type in which `fast_attention` multiplies on a CPU."""
        return torch.float32 if self._autocast or self._type == torch.float16 else self._type

    def forward(self, network: nn.Module, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Run *network* and return its output in float32, whatever type it computed in; every loss is then float32 too."""
        with torch.autocast(self._device, self._type, enabled=self._autocast):
            output: LocalizerOutput = network(audio, visual)
        if not self._autocast:
            return output
        return output._replace(**{name: value.float() for name, value in output._asdict().items() if value is not None})

    def backward(self, total: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float) -> None:
        """Compute the gradients and take the optimiser's step; if float16 gradients overflow, skip the step and lower the scale.

        Args:
            total: the loss.
            optimizer: the optimiser of *parameters*; their gradients must be None or zero before.
            parameters: the parameters whose gradients are clipped.
            clip_norm: largest norm of all gradients of *parameters* together; 0 for no limit.
        """
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if clip_norm > 0.0:
            self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, float]:
        """Return the state of the gradient scale, which a resumed run needs; empty if gradients are not scaled."""
        return {name: float(value) for name, value in self.scaler.state_dict().items()}

    def restore(self, state: dict[str, float]) -> None:
        """Restore a state that `state` returned."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(
                {**state, "growth_interval": int(state["growth_interval"]), "_growth_tracker": int(state["_growth_tracker"])}
            )
