"""The HTML page: what was measured, the main results, the sections, and all definitions again for printing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from vaelab.config import OWN_LOOP
from vaelab.data.layout import describe_shape
from vaelab.errors import counted
from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.page.figure import figure
from vaelab.evaluation.page.markup import Html, joined, tag, void
from vaelab.evaluation.report import Report
from vaelab.evaluation.results import Quantity, Section
from vaelab.spelling import with_options

MAIN = (
    {
        "likelihood bound": "how improbable the model finds unseen images",
        "likelihood distortion": "how far reconstructions are from the images",
    },
    {"latent active_units": "dimensions of z that the model uses"},
    {"agreement agreement": "generated images that show the label asked for"},
    {"transfer train_on_generated": "accuracy of a classifier trained on generated images only"},
    {"leakage dense_probe": "labels predicted from z alone, at best by chance"},
    {
        "samples fid": "distance of generated from real images",
        "random_points random_fid": "distance of decoded random points from real images",
    },
    {"style slant_correlation": "whether a z has the same slant under every label"},
    {
        "outliers auroc_corrected": "how well other images are told apart; 0.5 is chance",
        "outliers auroc_reconstruction": "how well other images are told apart; 0.5 is chance",
    },
)
"""The results at the top, by section key and quantity key, and what they are; of several alternatives, the first available."""

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
KINDS = {"ae": "Autoencoder", "vae": "Variational autoencoder", "cvae": "Conditional variational autoencoder"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content Security Policy: the browser may fetch nothing."""


def page_html(report: Report) -> str:
    """Return a report as one HTML page that needs no script, no network and no other file."""
    title = f"{report.facts['model']['kind']} on {report.facts['data']['name']}"
    head = tag(
        "head",
        void("meta", charset="utf-8"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", http_equiv="Content-Security-Policy", content=POLICY),
        void("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}: report"),
        void("link", rel="icon", href="data:,"),
        tag("style", Html(files("vaelab.evaluation.page").joinpath("style.css").read_text(encoding="utf-8"))),
    )
    main = tag("main", *(_section(one) for one in report.sections))
    body = tag("body", _top(report, title), main, _definitions(report), _foot(report))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _top(report: Report, title: str) -> Html:
    quick = report.facts["settings"]["quick"]
    hint = "Quick evaluation: fewer images and samples than a full evaluation, so the errors are larger."
    links = tag("ul", *(tag("li", tag("a", one.title, href=f"#{one.key}")) for one in report.sections))
    return tag(
        "header",
        tag("p", "vaelab report", class_="kicker"),
        tag("h1", title),
        tag("p", hint, class_="quick") if quick else "",
        _cards(report.sections),
        _facts(report.facts),
        tag("nav", links, aria_label="Sections") if len(report.sections) > 1 else "",
    )


def _cards(sections: Iterable[Section]) -> Html:
    """The main results, in large type."""
    known = {f"{section.key} {one.key}": (section, one) for section in sections for one in section.quantities}
    cards = []
    for alternatives in MAIN:
        for section, one, says in [(*known[key], says) for key, says in alternatives.items() if key in known][:1]:
            value, _, error = rounded(one.value, one.error).partition(" ± ")
            value += "\u00a0%" if one.unit == "%" else ""
            more = joined(f"± {error} " if error else "", one.unit if one.unit != "%" or error else "")
            parts = (
                tag("span", one.name, class_="of"),
                tag("span", value, class_="large"),
                tag("span", more, class_="unit"),
                tag("span", f"{says}; {one.better} is better" if one.better else says, class_="says"),
            )
            cards.append(tag("a", *parts, href=f"#{section.key}", class_="card"))
    return tag("div", *cards, class_="cards") if cards else Html("")


def _facts(facts: dict[str, Any]) -> Html:
    """Model, data, protocol, settings and date."""
    model, data, settings, run = facts["model"], facts["data"], facts["settings"], facts.get("run")
    classes = model["classes"]
    network = f"{run['network']}, " if run else ""
    rows = [
        (
            "Model",
            f"{KINDS[model['kind']]}, {network}{model['latent_dim']} latent dimensions, {model['weights']:,} weights",
        ),
        ("Images", describe_shape(model["shape"]) + (f", {counted(len(classes), 'class')}" if classes else "")),
    ]
    if run:
        budget = run["trained_for"]
        how = f"in {budget}" if budget == OWN_LOOP else f"with a budget of {budget}"
        same = "the same data" if run["same_data"] else "not the data measured on"
        rows += [
            ("Run", run["name"]),
            ("Trained on", f"{run['source']}, {how}: {same}"),
        ]
    rows += [
        ("Measured on", f"{counted(data['images'], data['split'] + ' image')} of {data['name']}"),
        ("Protocol", data["protocol"]),
    ]
    if facts.get("versus"):
        rows.append(("Outliers", facts["versus"]["name"]))
    draws = "no bound" if model["kind"] == "ae" else f"K = {settings['importance_samples']:,}"
    rows += [
        ("Settings", f"{draws}, seed {settings['seed']}" + (", quick" if settings["quick"] else "")),
        ("Made", f"{_moment(facts['made'])} with vaelab {facts['vaelab']}"),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in rows), class_="facts")


def _moment(iso: str) -> str:
    """Format as 3 May 2026, 14:05 UTC, in English in every locale."""
    moment = datetime.fromisoformat(iso).astimezone(UTC)
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}, {moment:%H:%M} UTC"


def _section(section: Section) -> Html:
    parts = [tag("h2", section.title)]
    if section.left_out:
        parts.append(tag("p", tag("strong", "Left out: "), with_options(section.left_out), class_="left-out"))
    parts += [tag("p", words, class_="lead" if at == 0 else None) for at, words in enumerate(section.words)]
    if section.quantities:
        parts.append(_table(section))
    if section.plots:
        says = section.words[0] if section.words else ""
        drawn = (figure(plot, f"{section.key}-{plot.key}", says) for plot in section.plots)
        parts.append(tag("div", *drawn, class_="plots"))
    return tag("section", *parts, id=section.key)


def _table(section: Section) -> Html:
    """Table of the quantities of a section; the definition opens under the name."""
    counted = any(one.count is not None for one in section.quantities)
    beside = any(one.beside for one in section.quantities)
    columns = ["metric", "value", *(["n"] if counted else []), *(["for comparison"] if beside else [])]
    head = tag("tr", *(tag("th", name, scope="col", role="columnheader") for name in columns), role="row")
    rows = [_row(one, counted, beside) for one in section.quantities]
    return tag(
        "table",
        tag("caption", f"Results: {section.title}", class_="unseen"),
        tag("thead", head, role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        class_="figures",
        role="table",
    )


def _row(one: Quantity, counted: bool, beside: bool) -> Html:
    value, _, error = rounded(one.value, one.error).partition(" ± ")
    parts = [tag("b", value), tag("span", f" ± {error}", class_="error") if error else ""]
    space = "\u00a0" if len(one.unit) < 3 else " "  # keeps % on the line of its number
    parts.append(tag("span", f"{space}{one.unit}", class_="unit") if one.unit else "")
    better = f"{one.better} is better" if one.better else ""
    name = tag("details", tag("summary", one.name), tag("p", _definition(one)))
    cells = [tag("th", name, scope="row", role="rowheader"), tag("td", tag("div", *parts), _small(better), role="cell")]
    if counted:
        count = "" if one.count is None else f"{one.count:,}"
        cells.append(tag("td", count, role="cell", class_="count" if count else "count none"))
    if beside:
        percent = "\u00a0%" if one.unit == "%" else ""
        others = [
            tag("li", tag("span", name), " ", tag("b", f"{rounded(value)}{percent}")) for name, value in one.beside
        ]
        cells.append(
            tag("td", tag("ul", *others) if others else "", role="cell", class_="beside" if others else "none")
        )
    return tag("tr", *cells, role="row")


def _small(text: str) -> Html:
    return tag("div", text, class_="better") if text else Html("")


def _definition(one: Quantity) -> str:
    return f"{one.definition}{f' {one.better.capitalize()} is better.' if one.better else ''}"


def _definitions(report: Report) -> Html:
    """All definitions, for printing, because nothing can be opened on paper."""
    chapters = []
    for section in report.sections:
        if section.quantities:
            entries = (joined(tag("dt", one.name), tag("dd", _definition(one))) for one in section.quantities)
            chapters.append(joined(tag("h3", section.title), tag("dl", *entries)))
    heading = tag("h2", "Definitions")
    return tag("section", heading, *chapters, class_="definitions") if chapters else Html("")


def _foot(report: Report) -> Html:
    data, model = report.facts["data"], report.facts["model"]
    seconds = sum(section.seconds for section in report.sections)
    text = (
        f"± is one standard error. Measured in {seconds:,.0f} s. Fingerprints: data {data['fingerprint'][:16]}, weights "
        f"{model['weights_sha256'][:16]}. The same results, with all digits, are in report.json. This report is of one model; "
        "vaelab compare sets the reports of several side by side."
    )
    return tag("footer", tag("p", text))
