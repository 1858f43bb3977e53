"""Sample frames of the demo's hospitals, as PNG."""

from pathlib import Path

from PIL import Image
from plan import DemoPlan

from shared.phantom.hospital import HospitalSpec, clips


def sample_frames(plan: DemoPlan, out: Path) -> list[tuple[str, Path]]:
    """The first patient's first frame of three views of every hospital: caption and file."""
    found = []
    for place, hospital in enumerate(plan.everyone()):
        whole = plan.spec(place)
        few = dict(list(whole.labels.items())[:3])
        spec = HospitalSpec(
            name=whole.name, scanner=whole.scanner, labels=few, num_patients=1, clips_per_view=1,
            frames_per_clip=1, size_HW=whole.size_HW, screen_correlation=0.0, seed=whole.seed,
            first_patient=whole.first_patient,
        )  # fmt: skip
        for number, clip in enumerate(clips(spec)):
            path = out / "samples" / f"{hospital.name}-{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(clip.pixels_THW[0]).save(path)
            found.append((f"{hospital.name}, {hospital.scanner}: {clip.label}", path))
    return found
