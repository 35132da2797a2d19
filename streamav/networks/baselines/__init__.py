"""The networks that VSCG is compared with. All have the same call: `network(audio, visual)` returns a `LocalizerOutput`.

Importing this package does not import torch; `make_baseline` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.networks.baselines.options import BaselineName, BaselineOptions, Plugin

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BaselineName", "BaselineOptions", "Plugin", "make_baseline"]


def make_baseline(options: BaselineOptions) -> nn.Module:
    """Build the baseline that *options* name, with random initial weights."""
    if options.network == "avel":
        from streamav.networks.baselines.avel import AVEL

        return AVEL(options)
    if options.network == "pspnet":
        from streamav.networks.baselines.pspnet import PSPNet

        return PSPNet(options)
    if options.supervision == "fully":
        from streamav.networks.baselines.cmbs import FullyCMBS

        return FullyCMBS(options)
    from streamav.networks.baselines.cmbs import WeaklyCMBS

    return WeaklyCMBS(options)
