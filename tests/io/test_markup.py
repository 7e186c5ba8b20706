"""YAML and XML: the dialect of OpenCV, strings alone, and what is refused."""

from __future__ import annotations

import pytest

from gradslam_ng.io.markup import BadMarkup, read_xml, read_yaml


def yaml(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    return read_yaml(tmp_path / "a.yaml", "a camera")


def xml(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    return read_xml(tmp_path / "a.xml", "a camera")


def test_yaml_as_opencv_writes_it(tmp_path):
    text = '%YAML:1.0\n---\ntime: "x"\nK: !!opencv-matrix\n   rows: 1\n   data: [ 1., -2e-1,\n       .Nan ]\n'
    expected = {"time": "x", "K": {"rows": "1", "data": ["1.", "-2e-1", ".Nan"]}}
    assert yaml(tmp_path, text) == expected
    assert yaml(tmp_path, text.replace("---\n", "# c\n\n").replace("\n", "\r\n")) == expected
    assert yaml(tmp_path, "\ufeff" + text) == expected
    assert yaml(tmp_path, "Camera.fx:5\nCamera.fy:-.5\n") == {"Camera.fx": "5", "Camera.fy": "-.5"}


def test_the_first_document_counts_and_tabs_are_blanks(tmp_path):
    assert yaml(tmp_path, "a:\n\tb: 1\n---\na: 2\n") == {"a": {"b": "1"}}
    assert yaml(tmp_path, "") is None


def test_nothing_is_constructed(tmp_path):
    assert yaml(tmp_path, "a: !!python/object/apply:os.system ['false']\nb: yes\nc: 2026-01-01\n") == {
        "a": ["false"], "b": "yes", "c": "2026-01-01",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a: [1", "a: 1\n b: 2\n", "a: 1\na: 2\n", "'a", "\ta: b: c"])
def test_what_is_not_yaml_is_refused(tmp_path, text):
    with pytest.raises(BadMarkup, match=r"a\.yaml: expected a camera, got what is not YAML"):
        yaml(tmp_path, text)


def test_aliases_of_aliases_are_refused(tmp_path):
    lines = [
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    with pytest.raises(BadMarkup, match="entries, by aliases of aliases"):
        yaml(tmp_path, "a: &a [1, 1]\n" + "\n".join(lines))
    with pytest.raises(BadMarkup, match="recursive"):
        yaml(tmp_path, "a: &a [1, *a]\n")
    assert yaml(tmp_path, "a: &a [1]\nb: *a\n") == {"a": ["1"], "b": ["1"]}


def test_xml(tmp_path):
    text = '<?xml version="1.0" encoding="UTF-16"?><!-- c --><s><K type_id="m"><d>1. 0.\n 2</d></K><n>5</n><n>6</n></s>'
    assert xml(tmp_path, text) == {"K": {"d": ["1.", "0.", "2"]}, "n": ["5", "6"]}


@pytest.mark.parametrize(
    "text", ["", "<a>", "a", "<a></b>", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "<a>" * 30 + "</a>" * 30]
)
def test_what_is_not_plain_xml_is_refused(tmp_path, text):
    with pytest.raises(BadMarkup, match=r"a\.xml: expected a camera, got what is not plain XML"):
        xml(tmp_path, text)
