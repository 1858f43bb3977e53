"""``echofed-site export``: write what may leave into a folder, for a person to carry."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.console import emit, progress, table
from shared.echo.model_card import ModelCard, ModelKind, kind_folder, save_model
from shared.errors import Code, EchoFedError
from shared.log import set_up_log
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, choose_datasets

if TYPE_CHECKING:
    from shared.echo.expert import ExpertCard
    from site_client.rounds.desk import Desk


def export(
    out: Annotated[
        Path,
        typer.Argument(
            help="Folder to write to: experts/, exports/, segmenters/ or synthesizers/."
        ),
    ],
    experts: Annotated[
        Path | None,
        typer.Option(help="Folder of everybody's experts; without it this site's own are written."),
    ] = None,
    segmenter: Annotated[str, typer.Option(help="Id of a segmenter to write instead.")] = "",
    synthesizer: Annotated[str, typer.Option(help="Id of a synthesizer to write instead.")] = "",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Dataset to look at; repeatable. Default: the only.")
    ] = None,
    recipient: Annotated[
        str, typer.Option(help="Who receives it, as in policy.yaml; the federation by default.")
    ] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    as_json: JsonOption = False,
) -> None:
    """Let experts, features or one other model leave by hand: same policy, same record."""
    from site_client.rounds.desk import open_desk

    desk = open_desk(config, recipient=recipient)
    set_up_log(site=desk.site)
    if segmenter and synthesizer:
        raise EchoFedError(
            Code.CONFIG_INVALID, "one model leaves at a time", "name a segmenter or a synthesizer"
        )
    if segmenter or synthesizer:
        kind: ModelKind = "segmenter" if segmenter else "synthesizer"
        done, refused = _model(desk, kind, segmenter or synthesizer, out / kind_folder(kind))
    elif experts is None:
        done, refused = _own_experts(desk, out / "experts")
    else:
        chosen = choose_datasets(desk.store, dataset or ())
        done, refused = _features(desk, chosen, experts, out / "exports")
    rows = [(name, str(size)) for name, size in done.items()]
    tables = [table("written", ("what", "bytes"), rows)]
    if refused:
        denied = [(str(one["subject"]), str(one["code"]), str(one["reason"])) for one in refused]
        tables.append(table("refused", ("what", "code", "reason"), denied))
    emit({"written": done, "refused": refused}, as_json=as_json, tables=tables)
    if refused and not done:
        raise typer.Exit(int(refused[0]["code"]))


def _own_experts(desk: "Desk", folder: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    from shared.echo.expert import read_expert_card, save_checkpoint
    from site_client.rounds.experts import release_expert

    done: dict[str, int] = {}
    refused: list[dict[str, Any]] = []
    for card in desk.own_experts():
        try:
            document, weights = release_expert(desk, card.id)
        except EchoFedError as error:
            refused.append(_refusal(card.id, error))
            continue
        save_checkpoint(folder / card.id, read_expert_card(document), weights)
        done[card.id] = len(weights)
    return done, refused


def _model(
    desk: "Desk", kind: ModelKind, name: str, folder: Path
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    from site_client.rounds.models import release_segmenter, release_synthesizer

    card: ModelCard
    try:
        if kind == "segmenter":
            card, weights = release_segmenter(desk, name)
        else:
            card, weights = release_synthesizer(desk, name)
    except EchoFedError as error:
        return {}, [_refusal(name, error)]
    save_model(folder / card.id, card, weights)
    return {card.id: len(weights)}, []


def _features(
    desk: "Desk", datasets: tuple[str, ...], experts: Path, folder: Path
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Rows by expert, or the statistics of all where the policy lets nothing else go."""
    from shared.echo.statistics import STATISTICS
    from shared.files import write_bytes
    from site_client.rounds.features import release_features, release_statistics

    cards = _keep(desk, experts)
    wanted = [
        (name, expert)
        for name in datasets
        for expert in ((STATISTICS,) if desk.egress.tells_by_statistics(name) else cards)
    ]
    done: dict[str, int] = {}
    refused: list[dict[str, Any]] = []
    with ExitStack() as stack:
        advance = stack.enter_context(progress("extract", len(wanted)))
        for name, expert in wanted:
            advance(1, f"{name} by {expert}")
            try:
                if expert == STATISTICS:
                    data = release_statistics(desk, name, cards, tuple(cards))
                else:
                    data = release_features(desk, name, cards, expert, asked=tuple(cards))
            except EchoFedError as error:
                refused.append(_refusal(f"{name} by {expert}", error))
                continue
            file = f"{desk.site}-{name}-{expert}.safetensors"
            write_bytes(folder / file, data)
            done[file] = len(data)
    return done, refused


def _keep(desk: "Desk", experts: Path) -> dict[str, "ExpertCard"]:
    """Everybody's experts, as a folder brings them, stored at this site."""
    from shared.echo.expert import CARD_FILE, expert_document, load_expert
    from shared.payload import Payload
    from site_client.rounds.desk import keep_experts

    found = [load_expert(path.parent) for path in sorted(experts.glob(f"*/{CARD_FILE}"))]
    if not found:
        raise EchoFedError(
            Code.EXPERT_UNKNOWN,
            "the folder of everybody's experts holds none",
            "give --experts the folder in which there is one folder for each expert",
        )
    body = {"cards": [expert_document(card) for card, _ in found]}
    weights = {card.id: data for card, data in found}
    return {card.id: card for card in keep_experts(desk, Payload(body, weights))}


def _refusal(subject: str, error: EchoFedError) -> dict[str, Any]:
    return {"subject": subject, "code": int(error.code), "reason": str(error)}
