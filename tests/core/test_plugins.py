"""The plugin host: real modules behind real entry points, working and broken in every way."""

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, PathDistribution
from pathlib import Path
from textwrap import dedent

import pytest

from outcrop.errors import AnalysisNotFoundError, PluginConflictError, PluginError
from outcrop.plugins import PluginRegistry, plugin_registry
from outcrop_schemas import KINDS

ANALYSIS = """
    from outcrop import Analysis, hookimpl

    class Norms(Analysis):
        name = "{name}"
        summary = "Mean norm of every layer."
        version = "1"
        produces = {{"per_layer": "per_layer"}}

        def run(self, context, parameters):
            raise AssertionError("listed here, never run")

    @hookimpl
    def outcrop_analyses():
        return [Norms]
"""


class Shop:
    """Writes plugins to disk and returns their entry points, as an installer would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def distribution(self, name: str) -> Distribution:
        metadata = self.folder / f"{name.replace('-', '_')}-1.2.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        return PathDistribution(metadata)

    def add(self, name: str, source: str, *, distribution: str | None = None) -> EntryPoint:
        distribution = distribution or f"dist-{name}"
        module = f"shop_{distribution}_{name}".replace("-", "_")
        (self.folder / f"{module}.py").write_text(dedent(source))
        # EntryPoint._for is how importlib.metadata itself binds an entry point to its distribution.
        return EntryPoint(name, module, "outcrop")._for(self.distribution(distribution))  # type: ignore[attr-defined]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.syspath_prepend(tmp_path)
    yield Shop(tmp_path)
    for module in [name for name in sys.modules if name.startswith("shop_")]:
        del sys.modules[module]


def hook(name: str, value: str) -> str:
    return f"from outcrop import hookimpl\n@hookimpl\ndef {name}():\n    return {value}\n"


def test_a_plugin_answers_for_its_analysis(shop: Shop) -> None:
    registry = PluginRegistry.load([shop.add("norms", ANALYSIS.format(name="norms"))])
    assert registry.analysis("norms").summary == "Mean norm of every layer."
    assert list(registry.analyses()) == ["norms"]
    [record] = registry.plugins()
    assert (record.name, record.distribution, record.version) == ("norms", "dist-norms", "1.2")
    assert record.module == "shop_dist_norms_norms"
    assert record.offers == {"analyses": ("norms",)}
    assert record.status == "loaded"
    assert record.errors == ()


def test_an_object_can_be_a_plugin(shop: Shop) -> None:
    source = """
        from outcrop import StimulusFamily, hookimpl

        class Plugin:
            @hookimpl
            def outcrop_stimuli(self):
                return [StimulusFamily("checkerboard", "squares", takes="image", make=list)]

        plugin = Plugin()
    """
    entry = shop.add("objects", source)
    entry = EntryPoint("objects", f"{entry.value}:plugin", "outcrop")
    [(name, family)] = PluginRegistry.load([entry]).stimuli().items()
    assert (name, family.name, family.summary) == ("checkerboard", "checkerboard", "squares")


def test_every_hook_is_collected(shop: Shop, tmp_path: Path) -> None:
    source = f"""
        import click
        from outcrop import StimulusFamily, hookimpl
        from outcrop.report.figure import Figure
        from outcrop_schemas import KINDS

        @hookimpl
        def outcrop_model_sources():
            return {{"mine": int}}

        @hookimpl
        def outcrop_data_sources():
            return {{"mine": str}}

        @hookimpl
        def outcrop_stimuli():
            return [StimulusFamily("noise", "grains", takes="image", make=list)]

        @hookimpl
        def outcrop_zoo_cards():
            return [{str(tmp_path)!r}]

        @hookimpl
        def outcrop_figures():
            return [Figure(kind="curve", title="Curves", draw=print)]

        @hookimpl
        def outcrop_schemas():
            return [KINDS["per_layer"].extend("mine.per_layer", [])]

        @hookimpl
        def outcrop_replications():
            return {{"claim-1": list}}

        @hookimpl
        def outcrop_commands():
            return [click.Command("hello")]
    """
    registry = PluginRegistry.load([shop.add("all", source)])
    assert registry.model_sources() == {"mine": int}
    assert registry.data_sources() == {"mine": str}
    assert registry.stimuli()["noise"].takes == "image"
    assert registry.zoo_cards() == (tmp_path,)
    assert registry.figures()["curve"].title == "Curves"
    assert list(registry.schemas()) == [*KINDS, "mine.per_layer"]
    assert registry.replications() == {"claim-1": list}
    assert registry.commands()["hello"].name == "hello"
    assert registry.broken() == []
    assert len(registry.plugins()[0].offers) == 8


def test_a_hook_that_returns_nothing_offers_nothing(shop: Shop) -> None:
    registry = PluginRegistry.load([shop.add("none", hook("outcrop_analyses", "None"))])
    assert registry.analyses() == {}
    assert registry.broken() == []


BROKEN = {
    "import": ("import module_that_is_not_there", "ModuleNotFoundError: No module named 'module_that_is_not_there'"),
    "exit": ("import sys\nsys.exit('giving up')", "SystemExit: giving up"),
    "syntax": ("def (", "SyntaxError"),
    "misspelt": (
        hook("outcrop_analysis", "[]"),
        "There is no hook 'outcrop_analysis'. Did you mean 'outcrop_analyses'",
    ),
    "arguments": (
        "from outcrop import hookimpl\n@hookimpl\ndef outcrop_analyses(context):\n    return []\n",
        "Argument(s) {'context'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "empty": ("x = 1", "It implements no hook; decorate its functions with @outcrop.hookimpl."),
    "raising": (hook("outcrop_analyses", "1 / 0"), "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_broken_plugin_is_recorded_and_the_rest_work(shop: Shop, how: str) -> None:
    source, words = BROKEN[how]
    registry = PluginRegistry.load([shop.add("bad", source), shop.add("norms", ANALYSIS.format(name="norms"))])
    assert list(registry.analyses()) == ["norms"]
    [broken] = registry.broken()
    assert words in str(broken)
    assert "plugin 'bad' of dist-bad" in str(broken)
    bad, norms = registry.plugins()
    assert (bad.status, norms.status) == ("broken", "loaded")
    assert bad.errors == (str(broken),)


@pytest.mark.parametrize(("how", "stage"), [("import", "import"), ("misspelt", "register"), ("raising", "collect")])
def test_the_stage_of_a_failure_is_known(shop: Shop, how: str, stage: str) -> None:
    [broken] = PluginRegistry.load([shop.add("bad", BROKEN[how][0])]).broken()
    assert broken.stage == stage


WRONG = {
    (
        "outcrop_analyses",
        "1",
    ): r"outcrop_analyses\(\) returned 1 \(int\); expected a list of subclasses of outcrop.Analysis",
    ("outcrop_analyses", "[int]"): "returned the class int; expected subclasses of outcrop.Analysis",
    ("outcrop_analyses", "'norms'"): r"returned 'norms' \(str\); expected a list",
    ("outcrop_model_sources", "[int]"): r"expected a mapping of names to functions",
    ("outcrop_model_sources", "{'a': 1}"): r"returned 1 \(int\); expected a function for 'a'",
    ("outcrop_model_sources", "{'a:b': int}"): r"returned 'a:b' \(str\); expected names of letters, digits",
    ("outcrop_zoo_cards", "['/not/there']"): r"returned '/not/there' \(str\); expected paths of existing folders",
    ("outcrop_commands", "[int]"): "expected instances of click.Command",
    ("outcrop_schemas", "['pairwise']"): "expected instances of outcrop_schemas.Kind",
    ("outcrop_figures", "['curve']"): "expected instances of outcrop.report.figure.Figure",
    ("outcrop_stimuli", "'x' * 99"): r"returned 'x{56}\.\.\. \(str\)",
    ("outcrop_stimuli", "{'noise': dict}"): r"expected a list of stimulus families",
    ("outcrop_stimuli", "[int]"): r"returned the class int; expected instances of outcrop.StimulusFamily",
}


@pytest.mark.parametrize(("name", "value"), sorted(WRONG))
def test_a_hook_that_returns_something_else_is_broken(shop: Shop, name: str, value: str) -> None:
    [broken] = PluginRegistry.load([shop.add("bad", hook(name, value))]).broken()
    assert (broken.stage, broken.hook) == ("collect", name)
    with pytest.raises(PluginError, match=WRONG[name, value]):
        raise broken.error


def test_an_unfinished_analysis_is_broken(shop: Shop) -> None:
    source = """
        from outcrop import Analysis, hookimpl

        class Unfinished(Analysis):
            name = "unfinished"

        @hookimpl
        def outcrop_analyses():
            return [Unfinished]
    """
    [broken] = PluginRegistry.load([shop.add("bad", source)]).broken()
    assert "the class Unfinished, which lacks summary, version, produces, run." in str(broken)


def test_a_plugin_cannot_offer_a_name_twice(shop: Shop) -> None:
    source = ANALYSIS.format(name="norms").replace("[Norms]", "[Norms, Norms]")
    [broken] = PluginRegistry.load([shop.add("bad", source)]).broken()
    assert "outcrop_analyses() offers 'norms' twice; names must be unique." in str(broken)


def test_one_broken_hook_leaves_the_others_of_its_plugin(shop: Shop) -> None:
    source = hook("outcrop_model_sources", "{'noise': dict}") + hook("outcrop_analyses", "1 / 0")
    registry = PluginRegistry.load([shop.add("half", source)])
    assert registry.analyses() == {}
    assert list(registry.model_sources()) == ["noise"]
    [record] = registry.plugins()
    assert record.status == "broken"
    assert record.offers == {"model_sources": ("noise",)}


def test_an_unknown_analysis_suggests_near_names(shop: Shop) -> None:
    registry = PluginRegistry.load([shop.add("norms", ANALYSIS.format(name="norms"))])
    with pytest.raises(
        AnalysisNotFoundError, match=r"^No analysis 'norm'\. Did you mean 'norms'\? Installed: norms\.$"
    ):
        registry.analysis("norm")


def test_without_plugins_nothing_is_installed() -> None:
    with pytest.raises(AnalysisNotFoundError, match=r"^No analysis 'blocks'\. Installed: none\.$"):
        PluginRegistry.load([]).analysis("blocks")


def test_an_unknown_analysis_names_the_plugins_that_might_have_had_it(shop: Shop) -> None:
    registry = PluginRegistry.load([shop.add("bad", "1 / 0")])
    with pytest.raises(
        AnalysisNotFoundError,
        match=r"might offer it: plugin 'bad' of dist-bad \(import: ZeroDivisionError: division by zero\)\.$",
    ):
        registry.analysis("norms")


@pytest.mark.parametrize("name", ["bad", "dist-bad"])
@pytest.mark.parametrize("source", ["1 / 0", hook("outcrop_analyses", "1 / 0")])
def test_asking_for_a_broken_plugin_raises_with_its_error_as_the_cause(shop: Shop, name: str, source: str) -> None:
    registry = PluginRegistry.load([shop.add("bad", source)])
    with pytest.raises(PluginError, match=f"'{name}' is not available: broken plugin 'bad' of dist-bad") as raised:
        registry.analysis(name)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_plugin_broken_elsewhere_is_not_blamed_for_a_missing_analysis(shop: Shop) -> None:
    registry = PluginRegistry.load([shop.add("bad", hook("outcrop_stimuli", "1 / 0"))])
    registry.broken()
    with pytest.raises(AnalysisNotFoundError, match=r"Installed: none\.$"):
        registry.analysis("bad")


def test_two_offers_of_one_name_are_a_conflict_that_names_both(shop: Shop) -> None:
    entries = [shop.add(name, ANALYSIS.format(name="norms")) for name in ("first", "second")]
    registry = PluginRegistry.load(entries)
    with pytest.raises(
        PluginConflictError,
        match=r"The analysis 'norms' is offered by both dist-first \(plugin 'first'\) and "
        r"dist-second \(plugin 'second'\)\. Uninstall one of them, or leave one out with OUTCROP_BLOCK=",
    ):
        registry.analysis("norms")
    assert [record.offers for record in registry.plugins()] == [{"analyses": ("norms",)}] * 2


OWN = {
    ("outcrop_commands", "command", "run"): "import click\n" + hook("outcrop_commands", "[click.Command('run')]"),
    ("outcrop_model_sources", "model source", "timm"): hook("outcrop_model_sources", "{'timm': int, 'mine': int}"),
    ("outcrop_data_sources", "data source", "torchvision"): hook("outcrop_data_sources", "{'torchvision': int}"),
    ("outcrop_schemas", "result kind", "pairwise"): "from outcrop_schemas import KINDS\n"
    + hook("outcrop_schemas", "[KINDS['pairwise']]"),
    ("outcrop_figures", "figure", "blocks"): "from outcrop.report.figure import Figure\n"
    + hook("outcrop_figures", "[Figure(kind='blocks', title='Blocks', draw=print)]"),
}


@pytest.mark.parametrize(("name", "noun", "offer"), sorted(OWN))
def test_a_name_of_outcrops_own_stays_outcrops_and_breaks_only_the_plugin(
    shop: Shop, name: str, noun: str, offer: str
) -> None:
    registry = PluginRegistry.load([shop.add("greedy", OWN[name, noun, offer])])
    merged = registry._merge(name)
    assert offer not in merged
    registry.raise_if_broken(name, offer)  # what outcrop has itself is never refused
    [broken] = registry.broken()
    assert (broken.plugin, broken.hook, broken.stage) == ("greedy", name, "collect")
    assert f"offers the {noun} {offer!r}, which outcrop has itself, and outcrop's is used" in str(broken)
    assert isinstance(broken.error, PluginConflictError)
    assert registry.plugins()[0].status == "broken"
    assert registry.hint(name) == ""


def test_a_greedy_plugin_keeps_its_other_names_and_hits_no_other_plugin(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outcrop.models import load_model, model_schemes

    source = hook("outcrop_model_sources", "{'timm': int, 'mine': int}") + hook("outcrop_data_sources", "{'text': int}")
    zoo = EntryPoint("zoo", "outcrop_zoo.plugin", "outcrop")
    registry = PluginRegistry.load([shop.add("greedy", source), zoo])
    monkeypatch.setattr("outcrop.plugins.plugin_registry", lambda: registry)
    assert {"mine", "timm", "zoo"} <= set(model_schemes())
    assert load_model("timm:test_resnet?pretrained=false").source.startswith("timm:")
    assert len(load_model("zoo:resnet14-patches-seed0").layers) > 1
    assert [broken.plugin for broken in registry.broken()] == ["greedy", "greedy"]
    with pytest.raises(PluginError, match="'timm', which outcrop has itself"):
        PluginRegistry.load([shop.add("greedy", source)], strict=True)


def test_two_plugins_that_want_one_name_hit_nobody_else(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop.data import load_data
    from outcrop.models import load_model

    both = hook("outcrop_model_sources", "{'one': int}") + hook("outcrop_data_sources", "{'one': int}")
    entries = [shop.add("first", both), shop.add("second", both), EntryPoint("zoo", "outcrop_zoo.plugin", "outcrop")]
    registry = PluginRegistry.load(entries)
    monkeypatch.setattr("outcrop.plugins.plugin_registry", lambda: registry)
    assert list(registry.model_sources()) == list(registry.data_sources()) == ["zoo"]
    for load, noun in ((load_model, "model source"), (load_data, "data source")):
        with pytest.raises(PluginConflictError, match=f"The {noun} 'one' is offered by both dist-first"):
            load("one:net")
    assert [record.status for record in registry.plugins()] == ["broken", "broken", "loaded"]
    assert "Uninstall one of them" in registry.plugins()[0].errors[0]


def test_a_kind_that_two_plugins_declare_is_refused_where_it_is_asked_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outcrop.analysis.validation import find_kind

    source = "from outcrop_schemas import KINDS\n"
    source += hook("outcrop_schemas", "[KINDS['per_layer'].extend('mine.per_layer', [])]")
    registry = PluginRegistry.load([shop.add("first", source), shop.add("second", source)])
    monkeypatch.setattr("outcrop.analysis.validation.plugin_registry", lambda: registry)
    assert find_kind("per_layer").name == "per_layer"
    with pytest.raises(PluginConflictError, match=r"The result kind 'mine\.per_layer' is offered by both dist-first"):
        find_kind("mine.per_layer")


def test_what_made_an_offer_is_known(shop: Shop) -> None:
    registry = PluginRegistry.load([shop.add("norms", ANALYSIS.format(name="norms"))])
    assert registry.provider("outcrop_analyses", registry.analysis("norms")) == "plugin 'norms' of dist-norms"
    assert registry.provider("outcrop_analyses", int) is None


def test_two_plugins_of_one_name_are_a_conflict_that_names_both(shop: Shop) -> None:
    entries = [shop.add("norms", ANALYSIS.format(name=one), distribution=one) for one in ("first", "second")]
    with pytest.raises(PluginConflictError, match="The plugin 'norms' is offered by both first and second"):
        PluginRegistry.load(entries)
    assert list(PluginRegistry.load(entries, block=["first"]).analyses()) == ["second"]
    assert list(PluginRegistry.load(entries, block=["second"]).analyses()) == ["first"]


def test_a_blocked_plugin_is_not_even_imported(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [shop.add("norms", ANALYSIS.format(name="norms")), shop.add("bad", "1 / 0"), shop.add("ugly", "1 / 0")]
    monkeypatch.setenv("OUTCROP_BLOCK", "norms, dist-bad,ugly")
    registry = PluginRegistry.load(entries)
    assert {record.name: record.status for record in registry.plugins()} == dict.fromkeys(
        ["norms", "bad", "ugly"], "blocked"
    )
    assert not [name for name in sys.modules if name.startswith("shop_")]
    with pytest.raises(AnalysisNotFoundError, match=r"Blocked by OUTCROP_BLOCK: bad, norms, ugly\.$"):
        registry.analysis("norms")


@pytest.mark.parametrize("source", ["1 / 0", hook("outcrop_stimuli", "1 / 0")])
def test_strict_makes_a_broken_plugin_fatal(shop: Shop, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    entries = [shop.add("bad", source)]
    monkeypatch.setenv("OUTCROP_STRICT", "0")
    PluginRegistry.load(entries)
    monkeypatch.setenv("OUTCROP_STRICT", "1")
    with pytest.raises(PluginError, match=r"Broken plugin 'bad' .* OUTCROP_STRICT makes that fatal") as raised:
        PluginRegistry.load(entries)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_the_installed_registry_is_made_once() -> None:
    assert plugin_registry() is plugin_registry()
