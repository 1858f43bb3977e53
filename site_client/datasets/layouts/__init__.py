"""Public sets as they are published: a layout each, one line each. Only here is a set named.

A layout looks at a folder and says which files are pictures of the set, with label, patient, split,
views, reader and licence. What is known of a tree only from others' code says so in its file.
"""

from collections.abc import Callable
from pathlib import Path

from shared.registry import Registry
from site_client.datasets.listing import Listing

Layout = Callable[[Path], Listing]

LAYOUTS: Registry[Layout] = Registry(
    "layout",
    {
        "camus": "site_client.datasets.layouts.camus:find",
        "echonet_dynamic": "site_client.datasets.layouts.echonet_dynamic:find",
        "echonet_lvh": "site_client.datasets.layouts.echonet_lvh:find",
        "echonet_pediatric": "site_client.datasets.layouts.echonet_pediatric:find",
        "ev9v": "site_client.datasets.layouts.ev9v:find",
        "fetal_hc18": "site_client.datasets.layouts.fetal_hc18:find",
        "lung_pocus": "site_client.datasets.layouts.lung_pocus:find",
        "mimic_iv_echo": "site_client.datasets.layouts.mimic_iv_echo:find",
        "muscle_timtrack": "site_client.datasets.layouts.muscle_timtrack:find",
        "organ_stream": "site_client.datasets.layouts.organ_stream:find",
        "tmed2": "site_client.datasets.layouts.tmed2:find",
        "tte47": "site_client.datasets.layouts.tte47:find",
        "unity": "site_client.datasets.layouts.unity:find",
    },
)
