"""Seeds of the fuzzing: real images, a real bundle's files, real requests."""

import base64
from pathlib import Path

import orjson

from tests.corpus import odd_images
from tests.fuzz import targets

_PIXEL = b"\xff\xd8\xff\xe0 no reader of requests looks further"


def images() -> list[bytes]:
    """Every odd image of the tests that is small enough, good and bad."""
    return [one.data for one in odd_images().values() if 0 < len(one.data) < 2**16]


def bundles(target: targets.BundleTarget, bundle: Path) -> list[bytes]:
    """Each file of a bundle as it is, by an honest writer and by a forger."""
    contents = [(bundle / name).read_bytes() for name in target.files]
    return [
        bytes([number + 128 * forged]) + content
        for number, content in enumerate(contents)
        for forged in (0, 1)
    ]


def requests() -> list[bytes]:
    """One of every form that a request has."""
    text = base64.b64encode(_PIXEL).decode()
    options = {
        "layer": "body",
        "filters": {"indices": [1, 2]},
        "topK": 3,
        "method": "attention",
        "heatmaps": True,
        "model": "tiny",
    }
    inline = {"images": [{"content": text, "source": "a.png"}], **options}
    bodies = (
        inline,
        {"images": [{"content": text}, {"content": text}], "mostActive": 2},
        {"images": [{"content": text}], "allFilters": True},
        {"describeFilters": {"layer": "body", "indices": [0], "pageSize": 5, "pageToken": "x"}},
        {"getModel": {"model": "tiny"}},
        {"profile": {"layer": "body", "withWords": True, "withThumbnails": True}},
        {
            "id": "7",
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]},
                {"name": "filters", "datatype": "INT64", "shape": [2], "data": [1, 2]},
                {"name": "k", "datatype": "UINT8", "shape": [1], "data": [3]},
                {
                    "name": "request",
                    "datatype": "BYTES",
                    "shape": [1],
                    "data": [base64.b64encode(orjson.dumps(options)).decode()],
                },
            ],
        },
    )
    json = [bytes([how]) + orjson.dumps(body) for body in bodies for how in (0, 1, 3)]
    profile = orjson.dumps({"profile": {"withThumbnails": True}})
    forms = [
        targets.form(_PIXEL, _PIXEL, orjson.dumps(options)),
        targets.form(_PIXEL, b"", profile),
        targets.form(_PIXEL),
    ]
    return [*json, *forms, b"\x01" + _PIXEL]
