"""What ``echofed-site doctor`` looks at, one line a check."""

from shared.registry import Registry
from site_client.doctor.finding import Check

CHECKS: Registry[Check] = Registry(
    "check",
    {
        "packages": "site_client.doctor.packages:check",
        "disk": "site_client.doctor.disk:check",
        "keys": "site_client.doctor.keys:check",
        "certificate": "site_client.doctor.certificate:check",
        "receiver": "site_client.doctor.receiver:check",
        "clock": "site_client.doctor.clock:check",
        "centre": "site_client.doctor.centre:check",
        "decoders": "site_client.doctor.decoders:check",
        "policy": "site_client.doctor.consent:check",
        "ledger": "site_client.doctor.record:check",
        "datasets": "site_client.doctor.datasets:check",
        "models": "site_client.doctor.models:check",
    },
)
