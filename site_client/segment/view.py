"""The view of a file that is to be segmented, where nobody says it: what the site's models see."""

from shared.errors import Code, EchoFedError
from site_client.clip_file import StoredClip
from site_client.predict import open_fusion, open_single, predict
from site_client.store import SiteStore


def find_view(store: SiteStore, clip: StoredClip, *, site: str) -> str:
    """The view that the serving fusion sees, or where none serves the site's only expert.

    Raises:
        EchoFedError: VIEW_UNKNOWN where nobody here can say it, or the verdict abstains.
    """
    experts = store.experts()
    if store.serving_fusion() is not None:
        judge = open_fusion(store, site=site)
    elif len(experts) == 1:
        judge = open_single(store, experts[0])
    else:
        raise EchoFedError(
            Code.VIEW_UNKNOWN,
            "the view is not named, and no fusion serves here to find it",
            "name it, as in --view A4C",
        )
    verdict = predict(clip, judge)
    if verdict.abstains:
        raise EchoFedError(
            Code.VIEW_UNKNOWN,
            f"{judge.name} is not certain of the view ({', '.join(verdict.doubts)})",
            f"look at the picture and name it; it would have said --view {verdict.view}",
        )
    return verdict.view
