"""What is measured of a binarizer, against brute force."""

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import nearest, recall, text_like

from bebr.core.codes import CodeSpec, code_values
from bebr.encoding import BundleRegistry
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.measuring import error_of, measure
from bebr.encoding.quantization.recurrent_fit import fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of

DIMS = 32
ROWS = text_like(700, dims=DIMS, common_mean=0.4)
QUERIES = text_like(60, seed=3, dims=DIMS, common_mean=0.4)


@pytest.fixture(scope="module", params=[False, True])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    fitted = fit_recurrent(ROWS[:300], CodeSpec.parse("24x2"), center=request.param)
    bundles = BundleRegistry([tmp_path_factory.mktemp("bundles")])
    return Encoder(bundles.put_binarizer("own@1", DIMS, files_of(fitted), {}))


@pytest.mark.parametrize("batch", [7, 100, 700])
def test_it_finds_what_brute_force_finds(encoder: Encoder, batch: int) -> None:
    found = measure(encoder, QUERIES, (ROWS[start : start + batch] for start in range(0, 700, batch)))
    values = code_values(encoder.encode(ROWS), encoder.spec, encoder.steps)
    expected = recall(nearest(encoder.project(QUERIES), values), nearest(QUERIES, ROWS))
    assert found.recall == pytest.approx(expected, abs=1e-9) and (found.queries, found.searched) == (60, 700)
    decoded = encoder.decode(encoder.encode(ROWS))
    cosines = (decoded * ROWS).sum(1) / np.linalg.norm(decoded, axis=1)
    assert found.error == pytest.approx(1 - cosines.mean(), abs=1e-5)
    assert error_of(encoder, ROWS) == pytest.approx(found.error, abs=1e-5)


def test_few_rows_are_all_found(encoder: Encoder) -> None:
    found = measure(encoder, QUERIES[:5], [ROWS[:4]])
    assert (found.recall, found.searched) == (1.0, 4)
