"""Codes are searched here as the service searches them: same scores, same rankings, same ties."""

from dataclasses import replace

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, nearest, recall, text_like

from bebr import kernel
from bebr.core.codes import CodeSpec, code_values, rescore_records, split_records
from bebr.core.scoring import (
    Scorer,
    dot_scores,
    hamming_distances,
    prepare_adc,
    prepare_hamming,
    prepare_rescore,
    rescore_scores,
)
from bebr.core.topk import top_k, top_rows
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.closed_form import fit
from bebr.encoding.quantization.closed_form_graph import to_onnx
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.residual import fit_residual
from bebr_training.search.coded import Candidate, CodedDocuments

DOCUMENTS, QUERIES = text_like(1500), text_like(60, seed=1)


@pytest.mark.parametrize("code", ["64x1", "8x4+24x2+16x1", "32x4"])
@pytest.mark.parametrize("scorer", list(Scorer))
def test_rankings_equal_those_of_core_and_of_the_kernel(code: str, scorer: Scorer):
    fitted = fit(DOCUMENTS, CodeSpec.parse(code), center=True)
    files = BinarizerFiles(to_onnx(fitted), fitted.spec, fitted.steps, fitted.gain)
    candidate = Candidate.of_files("mine", files, DIMS)
    found = CodedDocuments(candidate, DOCUMENTS).search(scorer)(QUERIES, 20)
    spec, steps = candidate.spec, candidate.steps
    codes, gains = split_records(candidate.binarizer.encode(DOCUMENTS), spec)
    query_codes, _ = split_records(candidate.binarizer.encode(QUERIES), spec)
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, len(codes)))
    kernel.pack(codes, spec, blocked, 0)
    if scorer is Scorer.HAMMING:
        signs = prepare_hamming(query_codes)
        scores = -hamming_distances(signs, codes, spec).astype(np.float32)
        scanned = kernel.hamming_top_k(blocked, len(codes), spec, signs, 20)[1]
    else:
        adc = scorer is Scorer.ADC
        projected = candidate.binarizer.project(QUERIES)
        asked = candidate.binarizer.code_query(code_values(candidate.binarizer.encode(QUERIES), spec, steps))
        queries = prepare_adc(projected if adc else asked, spec, steps)
        scores = dot_scores(queries, codes, gains, spec)
        scanned = kernel.dot_top_k(blocked, gains, len(codes), spec, queries, 20)[1]
    np.testing.assert_array_equal(found, np.array([top_k(line, 20) for line in scores]))
    np.testing.assert_array_equal(found, scanned)


def test_rescored_candidates_are_ranked_as_the_service_ranks_them() -> None:
    scan = fit_recurrent(DOCUMENTS, CodeSpec.parse("32x2"), effort=Effort(5, 2, 500))
    finer = replace(scan, residual=fit_residual(DOCUMENTS, scan.left_over(DOCUMENTS), 40))
    candidate = Candidate.of_files("finer", files_of(finer), DIMS, candidates=30)
    spec, steps = candidate.spec, candidate.steps
    assert spec == finer.record_spec and spec.scan == candidate.binarizer.spec
    coded = CodedDocuments(candidate, DOCUMENTS)
    for k in (10, 20):
        found = coded.rescored(k)(QUERIES, k)
        records = candidate.encode(DOCUMENTS)
        scan_scores = dot_scores(
            prepare_adc(candidate.binarizer.project(QUERIES), spec, steps), *split_records(records, spec), spec
        )
        added = rescore_scores(
            prepare_rescore(finer.residual.project(QUERIES), spec), rescore_records(records, spec), spec
        )
        best = top_rows(scan_scores, 3 * k)
        for query in range(len(QUERIES)):
            rows = np.sort(best[query])
            expected = rows[top_rows((scan_scores + added)[query : query + 1, rows], k)[0]]
            assert found[query].tolist() == expected.tolist()
    truth = nearest(QUERIES, DOCUMENTS)
    assert recall(coded.rescored(10)(QUERIES, 10), truth) > recall(coded.search(Scorer.ADC)(QUERIES, 10), truth) + 0.1
