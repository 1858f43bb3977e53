"""The subcommands of ``echofed-site``, one line each."""

from collections.abc import Callable

from shared.registry import Registry

COMMANDS: Registry[Callable[..., None]] = Registry(
    "command",
    {
        "init": "site_client.commands.setup:init",
        "fetch": "site_client.commands.fetch:fetch",
        "receive": "site_client.commands.receive:receive",
        "ingest": "site_client.commands.ingest:ingest",
        "labels": "site_client.commands.labels:labels",
        "describe": "site_client.commands.describe:describe",
        "review": "site_client.commands.review:review",
        "train": "site_client.commands.train:train",
        "evaluate": "site_client.commands.evaluate:evaluate",
        "predict": "site_client.commands.predict:predict",
        "segment": "site_client.commands.segment:segment",
        "synthesize": "site_client.commands.synthesize:synthesize",
        "status": "site_client.commands.status:status",
        "federate": "site_client.commands.federate:federate",
        "fetch-model": "site_client.commands.fetch_model:fetch_model",
        "serve": "site_client.commands.serve:serve",
        "export": "site_client.commands.export:export",
        "forget": "site_client.commands.forget:forget",
        "withdraw": "site_client.commands.withdraw:withdraw",
        "doctor": "site_client.commands.doctor:doctor",
    },
)
