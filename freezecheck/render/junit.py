"""For CI systems' test views: JUnit XML, a suite for each check and a case for each rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from ..discover import rules
from ..errors import FreezecheckError
from ..records import Finding, Report
from ._paint import printable
from ._places import from_root, place_of
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import error_text, full_text, skipped_lines, titled, verdict

_Element = ElementTree.Element


def _render(report: Report, style: Style) -> str:  # noqa: ARG001 - a program reads it the same in any style
    said = f"{report.command} {report.target}" + (f" against {report.spec}" if report.spec else "")
    suite = _suite(said, list(_cases(report)))
    suite.insert(0, _properties(report))
    lines = [*(f"not checked: {line}" for line in skipped_lines(report.skipped)), verdict(report)]
    _said(suite, "system-out", "\n".join(lines))
    return _document([suite])


def _error(error: FreezecheckError) -> str:
    case = _case("freezecheck", f"could not check ({error.kind})")
    result = _said(case, "error", error_text(error))
    result.attrib |= {"type": error.kind, "message": _xml(error.message)}
    if error.location:
        case.attrib |= {"file": _xml(from_root(error.location.file)), "line": str(error.location.line)}
    return _document([_suite("could not check", [case])])


def _cases(report: Report) -> Iterator[_Element]:
    """One case for every rule that ran, found something or was skipped, and for all else that was not checked."""
    where = _class_name(report)
    names = {rule.code: rule.name for rule in rules()}
    found: dict[str, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.code, []).append(finding)
    for code in sorted({*report.ran, *found}):
        findings = found.get(code, [])
        case = _case(where, f"{code} {findings[0].name if findings else names.get(code, '')}".rstrip())
        _judge(case, findings, report)
        yield case
    reasons = [(what, item.why) for item in report.skipped for what in item.codes or (item.what,)]
    for what, why in reasons:
        case = _case(where, f"{what} {names.get(what, '')}".rstrip())
        ElementTree.SubElement(case, "skipped", {"message": _xml(why)})
        yield case
    if report.ending is not None:
        case = _case(where, "the script comes to its end")
        ElementTree.SubElement(case, "error", {"message": _xml(f"it {report.ending.said}")})
        yield case


def _judge(case: _Element, findings: Sequence[Finding], report: Report) -> None:
    """Let a case fail by what makes the check fail, and only tell the rest; several findings are one failure."""
    grave = [f for f in findings if f.severity.rank >= report.fail_on.rank]
    mild = [f for f in findings if f not in grave]
    if grave:
        place = place_of(grave[0], report)
        case.attrib |= {"file": _xml(from_root(place.file)), "line": str(place.line)}
        failure = _said(case, "failure", "\n\n".join(_told(f) for f in grave))
        message = " ".join(finding.message.partition("\n")[0] for finding in grave)
        failure.attrib |= {"type": grave[0].severity.value, "message": _xml(message)}
    if mild:
        _said(case, "system-out", "\n\n".join(_told(f) for f in mild))


def _told(finding: Finding) -> str:
    return f"{finding.severity.value} {titled(finding)}\n{full_text(finding)}"


def _properties(report: Report) -> _Element:
    """What the check ran under."""
    element = _Element("properties")
    for name in ("seed", "device", "torch", "optimizer", "inputs", "loss", "steps"):
        value = getattr(report.case.conditions, name)
        if value not in (None, ""):
            ElementTree.SubElement(element, "property", {"name": name, "value": _xml(str(value))})
    return element


def _class_name(report: Report) -> str:
    """Test views split class names at dots: the file's and the spec's own dots are no levels."""
    parts = (part.replace(".", "_") for part in ("freezecheck", report.command, report.spec or report.target))
    return ".".join(parts)


def _case(where: str, name: str) -> _Element:
    return _Element("testcase", {"classname": _xml(where), "name": _xml(name), "time": "0"})


def _suite(name: str, cases: Sequence[_Element]) -> _Element:
    tally = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")}
    suite = _Element(
        "testsuite",
        {
            "name": _xml(f"freezecheck {name}"),
            "tests": str(len(cases)),
            "failures": tally["failure"],
            "errors": tally["error"],
            "skipped": tally["skipped"],
            "time": "0",
        },
    )
    suite.extend(cases)
    return suite


def _said(parent: _Element, tag: str, text: str) -> _Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = _xml(text)
    return element


def _xml(text: str) -> str:
    """Write the characters that XML cannot hold as escapes."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _document(suites: Sequence[_Element]) -> str:
    document = _Element("testsuites", {"name": "freezecheck"})
    for total in ("tests", "failures", "errors", "skipped"):
        document.set(total, str(sum(int(suite.attrib[total]) for suite in suites)))
    document.extend(suites)
    ElementTree.indent(document)
    text = ElementTree.tostring(document, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _joined(texts: Sequence[str]) -> str:
    """One document with the suites of all."""
    documents = [ElementTree.fromstring(text.encode(errors="surrogateescape")) for text in texts]
    return _document([suite for document in documents for suite in document])


RENDERER = Renderer("junit", _render, EVERY_COMMAND, error=_error, join=_joined)
