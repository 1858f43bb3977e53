"""Whether the segmenters are whole, and trained here or signed by the centre."""

from collections.abc import Iterator

from shared.errors import Code, EchoFedError
from site_client.doctor.finding import Finding, Premises, fault, fine
from site_client.segmenters import load_trusted


def check(premises: Premises) -> Iterator[Finding]:
    """Each segmenter, and what each alias stands for."""
    store = premises.store
    sound = 0
    for name in store.segmenters():
        try:
            load_trusted(store, name, site=premises.site)
            sound += 1
        except EchoFedError as error:
            yield fault(error.code, f"segmenter {name}: {error.message}", error.hint)
    for alias, name in store.aliases().items():
        if name not in store.segmenters():
            mend = f"run fetch-model {alias}"
            yield fault(Code.MODEL_UNKNOWN, f"{alias} stands for {name}, which is gone", mend)
    if sound:
        yield fine(f"segmenters: {sound} whole, and trained here or signed by the centre")
    elif not store.segmenters():
        yield fine("the site has no segmenter yet")
