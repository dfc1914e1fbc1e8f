"""The demo catalogue: 240 products, the same on every machine.

Twelve categories of five ranges; every range is sold in the four sizes of its category. Prices are EUR in minor units.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

CURRENCY = "EUR"
_UNIT = re.compile(r"(?<=[0-9]) (?=(g|kg|ml|l)\b)")
# These have exactly this much stock at first, so that selling out is quickly tried; the others have 500 to 1499.
FEW = 100
FEW_SKUS = frozenset(
    {
        "coffee-yirgacheffe-1kg",
        "tea-darjeeling-100g",
        "chocolate-madagascar-70g",
        "ceramics-blue-glaze-mug",
        "plants-monstera-large",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProduct:
    """A product and how much of it there is at first."""

    sku: str
    name: str
    description: str
    category: str
    price_minor: int
    weight_grams: int
    stock: int


@dataclass(frozen=True, slots=True)
class _Size:
    """A size that a category is sold in; the price is per cent of the range's."""

    name: str
    percent: int
    grams: int


@dataclass(frozen=True, slots=True)
class _Range:
    """Products that differ by size alone."""

    name: str
    price_minor: int
    description: str


@dataclass(frozen=True, slots=True)
class _Category:
    """A category: its id, the word for its products, its sizes, its ranges."""

    name: str
    noun: str
    sizes: tuple[_Size, ...]
    ranges: tuple[_Range, ...]


def demo_products() -> list[DemoProduct]:
    """All products, in an order that never changes."""
    combinations = (
        (category, range_, size)
        for category in _CATEGORIES
        for range_, size in itertools.product(category.ranges, category.sizes)
    )
    return [_product(*combination, stock) for combination, stock in zip(combinations, _stocks(), strict=False)]


def _product(category: _Category, range_: _Range, size: _Size, stock: int) -> DemoProduct:
    sku = f"{category.name}-{_slug(range_.name)}-{_slug(size.name)}"
    return DemoProduct(
        sku=sku,
        name=f"{range_.name} {category.noun}, {size.name}",
        description=f"{range_.description} Size: {size.name}.",
        category=category.name,
        price_minor=_tidy(range_.price_minor * size.percent // 100),
        weight_grams=size.grams,
        stock=FEW if sku in FEW_SKUS else stock,
    )


def _stocks() -> Iterator[int]:
    """Amounts that look counted: 500 to 1499, without a visible pattern."""
    return (500 + (number * 617) % 1000 for number in itertools.count(1))


def _tidy(minor: int) -> int:
    """The nearest price below that ends in 9."""
    return max(minor // 10 * 10 - 1, 99)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", _UNIT.sub("", text.lower()))


_CATEGORIES = (
    _Category(
        "coffee",
        "Coffee",
        (_Size("250 g", 100, 280), _Size("500 g", 190, 540), _Size("1 kg", 360, 1050), _Size("capsules", 120, 160)),
        (
            _Range("Espresso", 790, "Dark and heavy, with cocoa and roasted nuts."),
            _Range("Yirgacheffe", 1150, "Washed, floral, with bergamot and lemon."),
            _Range("Huila", 980, "Caramel, red apple and a round body."),
            _Range("Sumatra", 1020, "Earthy and spicy, with little acidity."),
            _Range("Decaf", 890, "Decaffeinated with water and carbon dioxide."),
        ),
    ),
    _Category(
        "tea",
        "Tea",
        (_Size("50 g", 100, 70), _Size("100 g", 180, 130), _Size("250 g", 420, 290), _Size("20 bags", 90, 60)),
        (
            _Range("Darjeeling", 690, "First flush, light and flowery."),
            _Range("Assam", 540, "Malty and strong, made for milk."),
            _Range("Sencha", 720, "Steamed green tea with a taste of fresh grass."),
            _Range("Earl Grey", 590, "Black tea with oil of bergamot."),
            _Range("Rooibos", 450, "Red bush from the Cederberg, without caffeine."),
        ),
    ),
    _Category(
        "chocolate",
        "Chocolate",
        (
            _Size("70 g", 100, 85),
            _Size("150 g", 200, 170),
            _Size("box of 12", 340, 260),
            _Size("couverture 1 kg", 690, 1020),
        ),
        (
            _Range("Madagascar", 490, "70 % cocoa with a note of red berries."),
            _Range("Ecuador", 520, "75 % cocoa, flowery and long."),
            _Range("Sea Salt", 450, "Milk chocolate with flakes of sea salt."),
            _Range("Hazelnut", 470, "Gianduja with hazelnuts from Piedmont."),
            _Range("White Vanilla", 430, "Cocoa butter, milk and Bourbon vanilla."),
        ),
    ),
    _Category(
        "spices",
        "Spice",
        (
            _Size("tin 40 g", 100, 75),
            _Size("tin 80 g", 170, 120),
            _Size("refill 200 g", 340, 215),
            _Size("mill 60 g", 220, 310),
        ),
        (
            _Range("Black Pepper", 520, "Tellicherry pepper, picked late."),
            _Range("Smoked Paprika", 480, "Dried over oak, mild."),
            _Range("Cinnamon", 450, "True cinnamon from Ceylon."),
            _Range("Cumin", 410, "Whole seed, to be toasted."),
            _Range("Turmeric", 390, "Ground root with a high share of curcumin."),
        ),
    ),
    _Category(
        "oils",
        "Oil",
        (
            _Size("250 ml", 100, 480),
            _Size("500 ml", 180, 900),
            _Size("1 l", 330, 1500),
            _Size("canister 3 l", 880, 3100),
        ),
        (
            _Range("Extra Virgin Olive", 990, "Cold pressed from Koroneiki olives."),
            _Range("Walnut", 1190, "Pressed from toasted kernels; for salads."),
            _Range("Sesame", 790, "Toasted and dark; a few drops are enough."),
            _Range("Pumpkin Seed", 1290, "Styrian, dark green, nutty."),
            _Range("Sunflower", 390, "High in oleic acid; for frying."),
        ),
    ),
    _Category(
        "ceramics",
        "Stoneware",
        (_Size("mug", 100, 390), _Size("bowl", 120, 520), _Size("plate", 140, 680), _Size("teapot", 380, 1150)),
        (
            _Range("Blue Glaze", 1800, "Thrown by hand, with a running cobalt glaze."),
            _Range("Ash White", 1650, "Matt white over a dark body."),
            _Range("Raw Clay", 1400, "Unglazed outside, clear inside."),
            _Range("Speckled", 1550, "Iron speckles under a milky glaze."),
            _Range("Tenmoku", 1990, "Black-brown glaze that breaks to rust at the edges."),
        ),
    ),
    _Category(
        "textiles",
        "Linen",
        (
            _Size("tea towel", 100, 120),
            _Size("apron", 270, 340),
            _Size("napkins set of 4", 230, 220),
            _Size("tablecloth", 640, 780),
        ),
        (
            _Range("Natural", 1290, "Undyed flax, washed soft."),
            _Range("Indigo", 1490, "Dyed in the yarn with indigo."),
            _Range("Striped", 1390, "Narrow red stripes in the weave."),
            _Range("Moss", 1450, "Piece-dyed in a muted green."),
            _Range("Charcoal", 1450, "Nearly black, woven densely."),
        ),
    ),
    _Category(
        "candles",
        "Candle",
        (_Size("small", 100, 180), _Size("large", 210, 460), _Size("pillar", 160, 520), _Size("set of 6", 190, 330)),
        (
            _Range("Beeswax", 1100, "Pure beeswax with its own scent."),
            _Range("Cedar", 1350, "Soy wax with oil of cedar."),
            _Range("Fig", 1350, "Soy wax; green fig and leaves."),
            _Range("Orange Clove", 1250, "Soy wax with orange peel and clove."),
            _Range("Unscented", 890, "Rapeseed wax, nothing added."),
        ),
    ),
    _Category(
        "paper",
        "Paper",
        (
            _Size("notebook A5", 100, 240),
            _Size("notebook A4", 160, 470),
            _Size("cards set of 10", 90, 150),
            _Size("block", 70, 310),
        ),
        (
            _Range("Ruled", 1190, "Ruled at 7 mm, numbered pages."),
            _Range("Dotted", 1190, "A grid of dots at 5 mm."),
            _Range("Plain", 1090, "Smooth ivory paper of 100 g."),
            _Range("Cotton", 1690, "Rag paper for ink and watercolour."),
            _Range("Recycled", 890, "From waste paper, without bleach."),
        ),
    ),
    _Category(
        "plants",
        "Plant",
        (_Size("small", 100, 600), _Size("medium", 190, 1600), _Size("large", 420, 4800), _Size("cutting", 60, 150)),
        (
            _Range("Monstera", 1290, "Holes in its leaves, tolerant of shade."),
            _Range("Ficus", 1490, "Rubber tree with glossy leaves."),
            _Range("Sansevieria", 1190, "Stands upright and forgives everything."),
            _Range("Calathea", 1590, "Patterned leaves that close at night."),
            _Range("Aloe", 890, "Succulent; wants sun and little water."),
        ),
    ),
    _Category(
        "soap",
        "Soap",
        (
            _Size("bar", 100, 110),
            _Size("set of 3", 270, 330),
            _Size("liquid 300 ml", 190, 360),
            _Size("shampoo bar", 150, 90),
        ),
        (
            _Range("Lavender", 590, "Olive and coconut oil with lavender."),
            _Range("Pine Tar", 650, "For rough hands; smells of smoke."),
            _Range("Oat", 550, "With ground oats, without perfume."),
            _Range("Rosemary", 590, "Fresh, with chopped leaves."),
            _Range("Laurel", 720, "After the recipe from Aleppo, aged nine months."),
        ),
    ),
    _Category(
        "tools",
        "Kitchenware",
        (_Size("spoon", 100, 70), _Size("spatula", 110, 90), _Size("board", 420, 1300), _Size("rolling pin", 300, 560)),
        (
            _Range("Olive Wood", 1190, "Dense and lively grained; no two are the same."),
            _Range("Beech", 690, "Plain and hard-wearing, oiled."),
            _Range("Walnut Wood", 1490, "Dark heartwood, finely sanded."),
            _Range("Cherry", 1290, "Warm in colour, darkens with time."),
            _Range("Maple", 990, "Pale and close-grained, kind to knives."),
        ),
    ),
)
