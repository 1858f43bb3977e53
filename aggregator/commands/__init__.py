"""The subcommands of ``echofed-aggregator``, one line each."""

from collections.abc import Callable

from shared.registry import Registry

COMMANDS: Registry[Callable[..., None]] = Registry(
    "command",
    {
        "init": "aggregator.commands.setup:init",
        "enrol": "aggregator.commands.enrol:enrol",
        "federate": "aggregator.commands.federate:federate",
        "serve": "aggregator.commands.serve:serve",
        "status": "aggregator.commands.status:status",
        "increment": "aggregator.commands.increment:increment",
        "average": "aggregator.commands.average:average",
        "fuse": "aggregator.commands.fuse:fuse",
        "promote": "aggregator.commands.promote:promote",
        "rollback": "aggregator.commands.promote:rollback",
        "register": "aggregator.commands.register:register",
        "withdraw": "aggregator.commands.withdraw:withdraw",
        "streams": "aggregator.commands.streams:streams",
        "benchmark": "aggregator.commands.benchmark:benchmark",
        "audit": "aggregator.commands.audit:audit",
    },
)
