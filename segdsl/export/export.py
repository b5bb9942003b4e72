"""Export of a trained model: each exporter writes its file, which is compared with PyTorch and then published."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segdsl.diagnostics import SegError, fail
from segdsl.export.certify import certificate
from segdsl.export.certify.interface import describe_interface
from segdsl.export.certify.trial_images import TrialSet, make_noise_trials, open_trials, replace_data_root
from segdsl.export.job import ExportJob, ProgressCallback, ignore_progress
from segdsl.export.provenance import UNKNOWN_PROVENANCE, Provenance, collect_provenance
from segdsl.export.writer import Writer, load_writer
from segdsl.inference.models import model_info
from segdsl.ir.program import Exporter, OpenVINOExporter, Program
from segdsl.lower.inference_rewrites import optimize_for_inference
from segdsl.run.folder.checkpoint import open_run
from segdsl.storage.draft_folders import open_draft_folder, publish_files
from segdsl.words.exports import get_format_name, name_exporters

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The exported files by name of their exporter, the OpenVINO model first, and its certificate.

    The certificate lists the names of further files under `also`, and has an entry for each.
    """

    files: dict[str, Path]
    certificate: dict[str, Any]

    @property
    def model(self) -> Path:
        """The OpenVINO model: its `.xml`, with the `.bin` next to it."""
        return next(iter(self.files.values()))


@dataclass(frozen=True, slots=True)
class ExportContext:
    """Where an exported model comes from, and who is told about the progress of the export."""

    provenance: Provenance = field(default_factory=lambda: dict(UNKNOWN_PROVENANCE))
    progress: ProgressCallback = ignore_progress


def export_run(
    run: Path,
    precision: str | None = None,
    program: Program | None = None,
    data: str | None = None,
    progress: ProgressCallback = ignore_progress,
) -> ExportResult:
    """Export the best weights of a run as `export/model-fp32.xml`, `-fp16` or `-int8`; replace an older export.

    ``precision``, ``program`` and ``data`` (the dataset folder) override those of the run; ``progress`` is called with
    a short text before each step. Raises SegError (`precision-unknown`, `export-failed`, `export-differs`,
    `export-not-written`, and the errors of opening the run and of quantization).
    """
    # Checked first: opening a run takes seconds.
    chosen = None if precision is None else check_precision(precision)
    opened = open_run(run)
    program = program or opened.program
    trials = open_trials(program if data is None else replace_data_root(program, data), opened.folder)
    context = ExportContext(collect_provenance(opened), progress)
    return export_model(program, opened.model, opened.folder / model_info.EXPORT_FOLDER, chosen, trials, context)


def export_model(
    program: Program,
    model: Any,
    folder: Path,
    precision: Precision | None = None,
    trials: TrialSet | None = None,
    context: ExportContext | None = None,
) -> ExportResult:
    """Write ``model`` into ``folder`` as every exporter of the program sets; all files or none.

    ``precision`` is that of the OpenVINO model, by default the program's. The files are compared with PyTorch on
    ``trials``, by default seeded noise. Raises SegError as :func:`export_run`.
    """
    exporters = resolve_exporters(program, precision)
    for exporter in exporters.values():
        load_writer(type(exporter)).check_installed(exporter)
    trials, context = trials or make_noise_trials(program), context or ExportContext()
    certificates: dict[str, dict[str, Any]] = {}
    files: dict[str, list[str]] = {}
    with _open_drafts(folder) as draft:
        for name, exporter in exporters.items():
            job = ExportJob(program, exporter, model, folder.parent, trials, context.progress)
            (draft / name).mkdir()
            writer = load_writer(type(exporter))(job, draft / name)
            certificates[name] = _certify_forms(writer)
            provenance = {
                **context.provenance,
                model_info.CERTIFICATE_KEY: model_info.dump_json(certificates[name]),
            }
            files[name] = _write_files(writer, name, draft, provenance)
        _publish_models(draft, folder, files.values())
    published = {name: folder / names[-1] for name, names in files.items()}
    return ExportResult(published, _merge_certificates(certificates))


def resolve_exporters(program: Program, precision: Precision | None = None) -> dict[str, Exporter]:
    """Return the exporters of the program by name, the OpenVINO model with ``precision`` unless that is None."""
    exporters = name_exporters(program.export)
    name, first = next(iter(exporters.items()))
    if precision is not None and isinstance(first, OpenVINOExporter):
        exporters[name] = first.model_copy(update={"precision": precision})
    return exporters


def check_precision(precision: str) -> Precision:
    """Return ``precision`` if it is valid. Raises SegError (`precision-unknown`)."""
    # Spelled out, since type checkers narrow a string to a Literal by equality only.
    if precision == "fp32" or precision == "fp16" or precision == "int8":
        return precision
    raise fail("precision-unknown", f"unknown precision `{precision}`", 'use "fp32", "fp16" or "int8"')


def _certify_forms(writer: Writer) -> dict[str, Any]:
    """Write the forms of a model and compare them with PyTorch.

    Returns the certificate of the published form. Raises SegError (`export-differs`) if it exceeds a limit.
    """
    job, program = writer.job, writer.job.program
    facts = writer.write_forms()
    job.progress(f"comparing with PyTorch on {job.trials.description}")
    # Without rewrites: what is compared with is the model as it was trained.
    network = optimize_for_inference(job.model, {})
    # The forms are closed before rows are explained, which takes as much memory again.
    rows = certificate.measure_forms(program, network, writer.open_forms(), job.trials)
    writer.explain_rows(rows)
    tolerance, has_empty_channel = program.export.tolerance, model_info.needs_empty_channel(program, job.exporter)
    extra = {"interface": describe_interface(program, job.exporter, has_empty_channel), **facts}
    result = certificate.build_certificate(writer.published_form, rows, job.trials, tolerance, extra)
    certificate.check_certificate(result, tolerance)
    return result


def _write_files(writer: Writer, name: str, draft: Path, provenance: Mapping[str, str]) -> list[str]:
    """Write the final files of an exporter into ``draft``.

    Returns their names: those that belong to the model first, then the model itself.
    """
    word = type(writer.exporter)
    base = get_format_name(word)
    # `model.onnx` and `model_2.onnx`, but `model-fp32.xml`: the form is part of the name where a format has several.
    form = "" if writer.published_form == base else f"-{writer.published_form}"
    file = draft / f"model{form}{name.removeprefix(base)}{word.suffix}"
    entries = model_info.build_model_info(writer.job.program, name, writer.published_form)
    writer.write_final_file(file, {**entries, **provenance})
    return [*(file.with_suffix(suffix).name for suffix in word.companions), file.name]


def _merge_certificates(certificates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the certificate of the first file, with the row and the interface of each further one."""
    first, *others = certificates
    merged: dict[str, Any] = {**certificates[first], "also": others}
    for name in others:
        result = certificates[name]
        merged[name] = {**result["rows"][result["precision"]], "interface": result["interface"]}
    return merged


@contextmanager
def _open_drafts(folder: Path) -> Iterator[Path]:
    try:
        with open_draft_folder(folder) as draft:
            yield draft
    except OSError as error:
        raise _export_not_written_error(folder) from error


def _publish_models(draft: Path, folder: Path, models: Collection[Sequence[str]]) -> None:
    """Move the files of each model to ``folder``."""
    # The last file makes a model of several: the old one goes before the others are replaced, the new one comes last.
    # A kill in between leaves no model rather than a mixture of two.
    for names in models:
        if len(names) > 1:
            (folder / names[-1]).unlink(missing_ok=True)
    publish_files(draft, folder, [name for names in models for name in names])


def _export_not_written_error(folder: Path) -> SegError:
    return fail(
        "export-not-written",
        f"the model could not be written into `{folder}`",
        "check that the disk has free space and that the run folder is writable",
        path=str(folder),
    )
