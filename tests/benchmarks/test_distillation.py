"""What the distillation benchmark calls a collapse and a cure."""

import pytest

from benchmarks.paper import distillation
from benchmarks.shared.runs import settings_of
from jaxep.training.settings import to_dict


def row(*curves):
    runs = [
        {"test_acc": list(curve), "train_accuracy": curve[-1], "test_accuracy": curve[-1]}
        for curve in curves
    ]
    return {"runs": runs}


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([0.1, 0.5, 0.9], 0), ([0.1, 0.8, 0.2, 0.9], 0.6), ([0.5, 0.4, 0.6, 0.3], 0.3)],
)
def test_a_fall_is_measured_from_the_best_epoch_before(curve, expected):
    assert distillation.fall({"test_acc": curve}) == pytest.approx(expected)


def test_one_bad_seed_is_no_cure():
    rows = {"KD": row([0.5, 0.92], [0.5, 0.91]), "KDW, τ 1": row([0.5, 0.92], [0.6, 0.2, 0.89])}
    holds = {claim.statement: claim.holds for claim in distillation.claims({"rows": rows})}
    assert list(holds.values()) == [True, True, False, False]


def test_rows_differ_from_the_cure_in_what_their_names_say():
    def changed(name):
        own, cure = (to_dict(settings_of(distillation.ROWS[n])) for n in (name, "KD"))
        return {key for key in own if own[key] != cure[key]}

    assert changed("KD, β 2") == {"beta", "relaxation"}
    assert changed("KD, rates of LE") == {"learning_rates"}
    assert changed("KD, β 2, rates of LE") == {"beta", "relaxation", "learning_rates"}
    assert changed("KDW, τ 1") == {"signal", "tau"}
    epochs = {settings_of(run).epochs for run in distillation.ROWS.values()}
    assert epochs == {distillation.EPOCHS}
