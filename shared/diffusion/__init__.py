"""Tables of diffusion: how a network is wrapped, at which noise levels it is asked, and by whom."""

from typing import TYPE_CHECKING

from shared.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.diffusion.base import Precondition, Schedule, Solver

PRECONDITIONS: Registry["Callable[[float], Precondition]"] = Registry(
    "precondition",
    {
        "edm": "shared.diffusion.precondition:Edm",
        "eps": "shared.diffusion.precondition:Eps",
        "v": "shared.diffusion.precondition:Velocity",
        "flow": "shared.diffusion.precondition:Flow",
        "vp": "shared.diffusion.precondition:VariancePreserving",
        "ve": "shared.diffusion.precondition:VarianceExploding",
    },
)
"""name -> class taking (sigma_data)."""

SCHEDULES: Registry["Schedule"] = Registry(
    "schedule",
    {
        "karras": "shared.diffusion.schedule:karras",
        "cosine": "shared.diffusion.schedule:cosine",
        "linear": "shared.diffusion.schedule:linear",
        "flow": "shared.diffusion.schedule:flow",
    },
)
"""name -> function of (num_steps, sigma_min, sigma_max) giving noise levels, the last one 0."""

SOLVERS: Registry["Solver"] = Registry(
    "solver",
    {
        "euler": "shared.diffusion.solvers.euler:solve",
        "heun": "shared.diffusion.solvers.heun:solve",
        "dpmpp_2m": "shared.diffusion.solvers.dpmpp_2m:solve",
        "dpmpp_3m": "shared.diffusion.solvers.dpmpp_3m:solve",
        "unipc2": "shared.diffusion.solvers.unipc2:solve",
        "unipc3": "shared.diffusion.solvers.unipc3:solve",
        "ancestral": "shared.diffusion.solvers.ancestral:solve",
        "ancestral_forward": "shared.diffusion.solvers.ancestral_forward:solve",
        "churn": "shared.diffusion.solvers.churn:solve",
    },
)
"""name -> function of (denoise, x_NCHW, sigmas_S, noise) giving x at the last of the levels."""
