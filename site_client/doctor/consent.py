"""Whether the policy loads, still holds, and means what is here."""

import difflib
from collections.abc import Iterator

from site_client.doctor.finding import Finding, Premises, fine, warn
from site_client.doctor.record import sound_entries
from site_client.policy import Policy, load_policy


def check(premises: Premises) -> Iterator[Finding]:
    """Entries that have ended or name nothing, datasets without an entry, bundles not approved."""
    policy = load_policy(premises.policy)
    yield fine(f"policy.yaml loads, revision {policy.revision}")
    here = premises.store.datasets()
    for name, consent in policy.datasets.items():
        if consent.expires is not None and consent.expires < premises.now.date():
            yield warn(
                f"consent for dataset {name} ended on {consent.expires}: nothing of it leaves",
                "renew expires in policy.yaml and raise revision, if it shall go on",
            )
        if name not in here:
            near = difflib.get_close_matches(name, here, n=1)
            hint = f"did you mean {near[0]}?" if near else "ingest it, or take the entry out"
            yield warn(f"policy.yaml names {name}, which is no dataset here", hint)
    if premises.address is not None:
        yield from _look_at_federation(premises, policy)


def _look_at_federation(premises: Premises, policy: Policy) -> Iterator[Finding]:
    silent = [name for name in premises.store.datasets() if name not in policy.datasets]
    if silent:
        yield warn(
            f"policy.yaml does not name {', '.join(silent)}: nothing of that leaves",
            "add it under datasets, if it shall take part",
        )
    if not policy.approved_bundles:
        yield warn(
            "no bundle is approved: this site answers no request of the centre",
            "compare the centre's bundle hash with the release's, then add it to approved_bundles",
        )
    refused = _refused_bundles(premises) - set(policy.approved_bundles)
    for digest in sorted(refused):
        yield warn(
            f"bundle {digest[:16]} was refused and is not approved",
            "if it is the centre's, compare its hash and add it to approved_bundles",
        )


def _refused_bundles(premises: Premises) -> set[str]:
    entries = sound_entries(premises.store.ledger_path)
    return {str(entry.body["bundle"]) for entry in entries if entry.kind == "bundle.refused"}
