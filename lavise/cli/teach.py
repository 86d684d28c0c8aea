"""``lavise teach``: a CNN, datasets and words in, a bundle out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from lavise.cli.arguments import DeviceName, Json
from lavise.cli.output import answers, notes, print_json, progress, shown
from lavise.errors import SpecError
from lavise.heap import WHILE_TEACHING, bound_heap

_CNN = (
    "efficientnet_lite0, torchvision:NAME[:WEIGHTS], python:MODULE:FACTORY[:WEIGHTS] or onnx:FILE."
)
_LOSSES = (
    "cross-entropy over concepts; cosine-cross-entropy: CLIP's objective (Radford et al., 2021), "
    "or hinge: the paper's ranking loss (Yang et al., 2022, equation 3, after DeViSE), with the "
    "paper's optimiser, for --mapper regression."
)
_CACHE = (
    "Keep features and checkpoints here: another run with the same CNN and datasets uses them "
    "again, and one that was killed goes on. Without it nothing is kept."
)
_PATIENCE = (
    "Stop after so many epochs without a better recall@5 on a tenth of the annotated images, "
    "which is then not taught; 0 never stops."
)
_Rgb = tuple[float, float, float]


def teach(
    out: Annotated[Path, typer.Option(help="Where the bundle goes.", metavar="BUNDLE")],
    *,
    cnn: Annotated[str, typer.Option(help=_CNN, metavar="SPEC")] = "efficientnet_lite0",
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A layer to explain, by its module name; repeatable.", metavar="NAME"),
    ] = None,
    tap: Annotated[
        list[str] | None,
        typer.Option(help="The same for onnx: CNNs, by its tensor; repeatable.", metavar="TENSOR"),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="own-classes[:DIR], demo, folder:DIR, coco:, vg:, broden:, voc: or detections:; "
            "repeatable. See README.md.",
            metavar="SPEC",
            show_default="own-classes and demo",
        ),
    ] = None,
    mapper: Annotated[
        Literal["concepts", "regression"],
        typer.Option(help="Form of the mapper; regression is the paper's."),
    ] = "concepts",
    loss: Annotated[
        Literal["cross-entropy", "cosine-cross-entropy", "hinge"] | None,
        typer.Option(help=_LOSSES, show_default="the mapper's own"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the examples.", min=1, show_default="the loss's")
    ] = None,
    patience: Annotated[int, typer.Option(help=_PATIENCE, min=0)] = 0,
    unseen: Annotated[
        float,
        typer.Option(
            help="Share of the annotated categories that is never taught, for evaluate --unseen.",
            min=0.0,
            max=1.0,
            metavar="SHARE",
        ),
    ] = 0.0,
    annotation_rate: Annotated[
        float,
        typer.Option(
            help="Share of the images whose annotation is used, as in the paper's study.",
            min=0.0,
            max=1.0,
            metavar="SHARE",
        ),
    ] = 1.0,
    words: Annotated[
        str, typer.Option(help="glove-50d, file:PATH or gensim:NAME.", metavar="SPEC")
    ] = "glove-50d",
    vocabulary: Annotated[
        str, typer.Option(help="concrete-nouns, top:N, all or file:PATH.", metavar="SPEC")
    ] = "concrete-nouns",
    name: Annotated[str, typer.Option(help="Of the model, in its manifest.")] = "lavise",
    class_names: Annotated[
        Path | None,
        typer.Option(help="Names of the classes of the CNN's head, one a line.", metavar="FILE"),
    ] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Side of the CNN's input, pixels.", min=1, max=4096)
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Channel means of pixels in 0 to 1, such as 0.485,0.456,0.406.", metavar="R,G,B"
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            help="Channel deviations of pixels in 0 to 1, such as 0.229,0.224,0.225.",
            metavar="R,G,B",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes the run repeatable.", min=0)] = 0,
    cache: Annotated[Path | None, typer.Option(help=_CACHE, metavar="DIR")] = None,
    workers: Annotated[
        int, typer.Option(help="Threads that read and decode images.", min=1, max=256)
    ] = 2,
    device: DeviceName = "auto",
    log: Annotated[
        Path | None,
        typer.Option(help="Write loss and held-out recall of each epoch as CSV.", metavar="FILE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Teaches a mapper for each layer and writes the bundle.

    With --json it prints a lavise.v1 GetModelResponse. Started by torchrun, several processes
    share the images and the training.
    """
    # What is wrong in the options is said before torch is loaded, which takes seconds.
    mean_255 = _in_255(mean, "mean", least=0.0)
    std_255 = _in_255(std, "std", least=1e-6)
    names = _read_names(class_names) if class_names else ()
    bound_heap(large=WHILE_TEACHING)

    from lavise.cnn import load_cnn
    from lavise.explainer import Explainer
    from lavise.messages import message_dict, model_message
    from lavise.teach.parallel import leads
    from lavise.teach.plan import Plan
    from lavise.teach.recipes import recipe_for
    from lavise.teach.teaching import teach as teach_bundle

    recipe = recipe_for(mapper, loss)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)

    plan = Plan(
        datasets=tuple(dataset or ("own-classes", "demo")),
        layers=(*(layer or ()), *(tap or ())),
        form=mapper,
        words=words,
        vocabulary=vocabulary,
        name=name,
        seed=seed,
        recipe=recipe,
        patience=patience,
        unseen=unseen,
        annotation_rate=annotation_rate,
    )
    console = notes()
    target = load_cnn(cnn, class_names=names, input_size=input_size, mean=mean_255, std=std_255)
    with progress(console) as track:
        bundle = teach_bundle(
            target,
            plan,
            out,
            cache=cache,
            workers=workers,
            device=device,
            log=log,
            track=track,
            say=console.print,
        )
    if not leads():
        return
    for entry in bundle.manifest.mappers:
        metrics = ", ".join(f"{key} {value:.3g}" for key, value in entry.metrics.items())
        console.print(f"{shown(entry.layer)}, held out: {metrics or 'not measured'}")
    if as_json:
        print_json(message_dict(model_message(Explainer(bundle, device="cpu"))))
    else:
        answers().print(f"wrote {shown(out)} (digest {bundle.digest[:12]})")


def _in_255(text: str | None, option: str, *, least: float) -> _Rgb | None:
    """Reads ``--mean`` and ``--std`` and brings them to pixels in 0..255, as a bundle has them."""
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        red = green = blue = -1.0
    if not all(least <= value <= 1 for value in (red, green, blue)):  # false for NaN too
        raise SpecError(
            f"--{option} is {text!r}; accepted: three numbers from 0 to 1 with commas between "
            "them, for red, green and blue, as torchvision writes them"
            + (", 0 excluded" if least else ""),
            field=option,
        )
    return 255 * red, 255 * green, 255 * blue


def _read_names(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"--class-names {str(file)!r} cannot be read: {error}; accepted: a UTF-8 text file, "
            "one name a line",
            field="class-names",
        ) from error
    names = tuple(line.strip() for line in lines)
    if not names or not all(names):
        raise SpecError(
            f"--class-names {str(file)!r} has "
            + (f"no name in line {names.index('') + 1}" if names else "no line")
            + "; accepted: one name a line, in the order of the classes",
            field="class-names",
        )
    return names
