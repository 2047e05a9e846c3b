"""What numbers a network can be built of, and the words in which others are refused."""

from outcrop.errors import ZooError


def require_positive(network: str, **numbers: object) -> None:
    """Refuse all numbers that are not whole and at least 1.

    Raises:
        ZooError: Names every such number.
    """
    wrong = [
        f"{name} {number!r}"
        for name, number in numbers.items()
        if isinstance(number, bool) or not isinstance(number, int) or number < 1
    ]
    if wrong:
        raise ZooError(f"{network} is built of whole numbers of at least 1; got {', '.join(wrong)}.")


def require_image(network: str, image: tuple[int, int, int], *, multiple: int = 1) -> None:
    """Refuse images that the strides of a network do not fit.

    Args:
        network: With its article, to begin a sentence.
        image: Channels, height, width.
        multiple: Of which height and width have to be.

    Raises:
        ZooError: The image has no size of which the network could be built.
    """
    if len(image) != 3:
        raise ZooError(f"{network} takes images of (channels, height, width); got {image!r}.")
    require_positive(network, **dict(zip(("channels", "height", "image width"), image, strict=True)))
    sides = image[1:]
    if any(side % multiple for side in sides):
        raise ZooError(
            f"{network} takes images whose sides are multiples of {multiple} pixels; "
            f"got {sides[0]} x {sides[1]}. Resize or pad the images."
        )


def stage_blocks(network: str, depth: int, extra: int) -> int:
    """Return the blocks n in each of three stages of a network of depth ``6n + extra``.

    Raises:
        ZooError: The depth is not of that form.
    """
    blocks, remainder = divmod(depth - extra, 6) if isinstance(depth, int) else (0, 0)
    if remainder or blocks < 1:
        examples = ", ".join(str(6 * count + extra) for count in (1, 2, 3))
        raise ZooError(f"{network} has depth 6n + {extra} ({examples}, ...); got depth {depth}.")
    return blocks
