"""Whether segmenters and synthesizers are whole, and trained here or signed by the centre."""

from collections.abc import Iterator

from shared.echo.model_card import KINDS, kind_folder
from shared.errors import Code, EchoFedError
from site_client.doctor.finding import Finding, Premises, fault, fine
from site_client.models import load_trusted_folder


def check(premises: Premises) -> Iterator[Finding]:
    """Each model that may have an alias, and what each alias stands for."""
    store = premises.store
    found = store.models()
    sound = 0
    for name, folder in found.items():
        try:
            load_trusted_folder(store, folder, site=premises.site)
            sound += 1
        except EchoFedError as error:
            yield fault(error.code, f"model {name}: {error.message}", error.hint)
    for alias, name in store.aliases().items():
        if name not in found:
            mend = f"run fetch-model {alias}"
            yield fault(Code.MODEL_UNKNOWN, f"{alias} stands for {name}, which is gone", mend)
    kinds = " and ".join(kind_folder(kind) for kind in KINDS)
    if sound:
        yield fine(f"{kinds}: {sound} whole, and trained here or signed by the centre")
    elif not found:
        yield fine(f"the site has no {kinds} yet")
