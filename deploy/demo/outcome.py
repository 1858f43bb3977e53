"""What the demo found, gathered step by step into one summary."""

from collections.abc import Mapping
from typing import Any

from plan import DemoPlan, dataset_of
from processes import Processes

FUSED = {"before": "fused, before", "after": "fused, after"}


class Outcome:
    """Scores by method and dataset, id scores, costs and one verdict."""

    def __init__(self, plan: DemoPlan) -> None:
        """Start empty."""
        self._plan = plan
        self._datasets = [hospital.name for hospital in plan.everyone()]
        self._scores: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._increments: dict[str, dict[str, Any]] = {}
        self._verdict: dict[str, Any] = {}
        self._cost: dict[str, Any] = {}

    def note_increment(self, when: str, document: dict[str, Any]) -> None:
        """Take the scores of an increment: fused, its variants, the experts and the baselines."""
        self._increments[when] = document
        report = document["report"]
        self._take(FUSED[when], report["datasets"])
        for method, datasets in report["comparison"].items():
            is_expert = method.startswith("expert ")
            name = method.split("-")[0] + " alone" if is_expert else method  # without its hash
            self._take(f"{name}, {when}", datasets)

    def note_image_scores(self, method: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the scores of a network that saw images, by hospital."""
        self._scores[method] = dict(scores)

    def note_verdict(self, document: dict[str, Any], *, truth: str, asked: str) -> None:
        """Take the verdict on a patient nobody has seen."""
        top = max(document["probabilities"].values())
        says = ", ".join(f"{e['expert']} {e['id_score']:.2f}" for e in document["experts"])
        doubt = " (abstains)" if document["abstains"] else ""
        verdict = f"{document['view']} {top:.2f}{doubt}"
        text = f"{asked} is shown a clip; {truth}. Verdict: {verdict}; id scores: {says}"
        self._verdict = {**document, "truth": truth, "text": text}

    def note_cost(self, processes: Processes) -> None:
        """Take what the steps cost."""
        moved = {"centre: increment": [self._moved(d) for d in self._increments.values()]}
        steps = []
        for step in processes.steps:
            waiting = moved.get(step["step"])
            steps.append({**step, "megabytes": waiting.pop(0) if waiting else ""})
        for when, document in self._increments.items():
            steps += increment_costs(when, document)
        self._cost = {"steps": steps, "peak_pss_bytes": processes.peak_pss_bytes}

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        after = self._increments["after"]["report"]["datasets"]
        return {
            "datasets": self._datasets,
            "macro_f1": {
                method: {name: scores["clips"]["macro_f1"] for name, scores in cells.items()}
                for method, cells in self._scores.items()
            },
            "frame_macro_f1": {
                method: {name: scores["frames"]["macro_f1"] for name, scores in cells.items()}
                for method, cells in self._scores.items()
            },
            "test_frames": sum(one["num_frames"] for one in after.values()),
            "forgetting": self._forgetting(),
            "per_view": [self._per_view(name) for name in self._datasets],
            "confusions": [
                {"name": name, **_confusion(self._scores[FUSED["after"]][name])}
                for name in self._datasets
            ],
            "id_scores": {_hospital(name): one["id_scores"] for name, one in after.items()},
            "increments": {
                when: {key: document[key] for key in ("fusion", "steps", "seconds", "report")}
                for when, document in self._increments.items()
            },
            "verdict": self._verdict,
            **self._cost,
        }

    def _take(self, method: str, datasets: Mapping[str, Mapping[str, Any]]) -> None:
        for name, scores in datasets.items():
            if scores.get("num_frames"):
                self._scores.setdefault(method, {})[_hospital(name)] = scores

    def _forgetting(self) -> dict[str, dict[str, float]]:
        """Change of clip-level macro-F1 of the old datasets, by method."""
        changes = {}
        for method in ("fused", "fine-tuning in turn"):
            before, after = self._scores[f"{method}, before"], self._scores[f"{method}, after"]
            changes[method] = {
                name: after[name]["clips"]["macro_f1"] - before[name]["clips"]["macro_f1"]
                for name in before
            }
        return changes

    def _per_view(self, name: str) -> dict[str, Any]:
        methods = [m for m in (*FUSED.values(), "pool and retrain") if name in self._scores[m]]
        labels = list(self._scores[FUSED["after"]][name]["clips"]["recall"])
        rows = [
            [label, *(f"{self._scores[m][name]['clips']['recall'][label]:.2f}" for m in methods)]
            for label in labels
        ]
        return {"name": name, "columns": methods, "rows": rows}

    def _moved(self, document: Mapping[str, Any]) -> str:
        moved = sum(step["bytes_in"] + step["bytes_out"] for step in document["steps"])
        return f"{moved / 1e6:.1f}"


def increment_costs(when: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an increment cost in all processes of centre and sites, with and without their start.

    The step of the command itself counts the CPU of the command alone.
    """
    steps = document["steps"]
    rounds = [step for step in steps if step["step"] not in ("start", "register")]

    def cpu_s(step: Mapping[str, Any], *keys: str) -> float:
        sites = sum(sum(step.get(key, {}).values()) for key in keys)
        return float(step.get("cpu_seconds", 0.0) + sites)

    whole = sum(cpu_s(step, "site_cpu_seconds", "site_start_cpu_seconds") for step in steps)
    alone = sum(cpu_s(step, "site_cpu_seconds") for step in rounds)
    seconds = sum(step["seconds"] for step in rounds)
    return [
        _cost_row(f"increment {when}, with process starts", document["seconds"], whole),
        _cost_row(f"increment {when}, rounds alone", seconds, alone),
    ]


def _cost_row(step: str, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    costs = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
    return {"step": step, **costs, "megabytes": ""}


def _confusion(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {key: scores["clips"][key] for key in ("labels", "confusion")}


def _hospital(dataset: str) -> str:
    """``site/dataset`` or ``dataset`` -> hospital."""
    return dataset.split("/")[-1].removesuffix(dataset_of(""))
