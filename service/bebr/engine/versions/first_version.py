"""The code version that a new collection begins with, and the plan of its fit where it has one."""

from bebr.config import Limits
from bebr.core.codes import CodeSpec
from bebr.encoding import BundleRegistry
from bebr.encoding.quantization.int8 import MAX_INT8_DIMS
from bebr.encoding.quantization.training_free import default_bytes, layout_of
from bebr.engine.collections.schema import FitPlan
from bebr.engine.collections.version import Version
from bebr.engine.requests import CollectionSettings, FitSettings
from bebr.engine.versions.fit_plan import MAX_FIT_DIMS, MIN_FIT_DIMS, make_plan
from bebr.errors import InvalidOption

INT8 = "int8"
"""What `code` is called where embeddings keep 8 bits a dim."""


def first_version(
    settings: CollectionSettings, bundles: BundleRegistry, limits: Limits
) -> tuple[Version, FitPlan | None]:
    """Raises InvalidOption, InvalidSpec, BundleNotFound, DamagedBundle. Reads files, so call it in a thread."""
    if settings.dims is not None:
        return _of_own_vectors(settings, settings.dims, limits)
    if settings.fit:
        fit = FitSettings() if settings.fit is True else settings.fit
        return _buffered(settings, fit, bundles, limits)
    if settings.code == INT8:
        raise InvalidOption("code 'int8' is for vectors of your own: give their 'dims'", key="dims")
    return (
        _raw(settings.code) if settings.bundle is None else _of_bundle(settings.bundle, settings.code, bundles)
    ), None


def _of_own_vectors(settings: CollectionSettings, dims: int, limits: Limits) -> tuple[Version, FitPlan | None]:
    """Training-free codes, for good or until a fit; or 8 bits a dim."""
    fit = settings.fit
    if settings.bundle is not None:
        raise InvalidOption(
            "'dims' is for vectors of your own; with a 'bundle', which says its dims, leave it out", key="dims"
        )
    if not 1 <= dims <= MAX_INT8_DIMS:
        raise InvalidOption(f"vectors have 1 to {MAX_INT8_DIMS} dims, got {dims}", key="dims")
    if isinstance(fit, FitSettings) and fit.dims not in (None, dims):
        raise InvalidOption(f"'fit.dims' is {fit.dims}, and 'dims' {dims}; give 'dims' alone", key="fit.dims")
    if settings.code is not None:
        if settings.code != INT8:
            raise InvalidOption(
                f"with 'dims', 'code' is '{INT8}' or left out, got '{settings.code:.100}'; how large codes are is said "
                "by fit.bytes and fit.rescore_bytes",
                key="code",
            )
        if fit:
            raise InvalidOption(f"code '{INT8}' stays as it is; leave 'fit' out, or 'code'", key="fit")
        return Version.buffered(0, dims, None, None), None
    if fit is False or (fit is None and not MIN_FIT_DIMS <= dims <= MAX_FIT_DIMS):
        return Version.rotated(0, dims, layout_of(dims, *default_bytes(dims))), None
    own = fit if isinstance(fit, FitSettings) else FitSettings()
    plan = _plan(own, dims, limits, default_bytes(dims))
    return Version.buffered(0, dims, None, None, layout_of(dims, plan.bytes, dims)), plan


def _buffered(
    settings: CollectionSettings, fit: FitSettings, bundles: BundleRegistry, limits: Limits
) -> tuple[Version, FitPlan]:
    """Embeddings of a bundle's model, or those that the user brings, until the fit."""
    if settings.code is not None:
        raise InvalidOption("'code' does not apply with 'fit', which chooses the code", key="code")
    if settings.bundle is not None and fit.dims is None:
        bundle = bundles.get(settings.bundle)
        size = bundle.spec.code_size_bytes if bundle.has_binarizer else default_bytes(bundle.embedding_dims)[0]
        plan = _plan(fit, bundle.embedding_dims, limits, (size, 0))
        return Version.buffered(0, bundle.embedding_dims, bundle.id, bundle.fingerprint), plan
    if settings.bundle is None and fit.dims is not None:
        if fit.bytes is None:
            raise InvalidOption("say how many bytes a code has, or give the 'dims' of the collection", key="fit.bytes")
        plan = _plan(fit, fit.dims, limits, (fit.bytes, 0))
        return Version.buffered(0, fit.dims, None, None), plan
    raise InvalidOption(
        "a fit needs either a 'bundle' that makes the embeddings, or the 'dims' of your own embeddings", key="fit.dims"
    )


def _plan(fit: FitSettings, dims: int, limits: Limits, default: tuple[int, int]) -> FitPlan:
    """default: bytes per scan code and per rescore code."""
    size_bytes = default[0] if fit.bytes is None else fit.bytes
    rescore_bytes = default[1] if fit.rescore_bytes is None else fit.rescore_bytes
    return make_plan(
        size_bytes, fit.sample, dims, limits, rescore_bytes=rescore_bytes, cpu_seconds=fit.cpu_seconds, at="fit."
    )


def _raw(code: str | None) -> Version:
    if code is None:
        raise InvalidOption(
            "a collection needs a 'bundle', the 'dims' of your own vectors, or a 'code' such as '256x2' for codes of "
            "your own",
            key="bundle",
        )
    spec = CodeSpec.parse(code)
    if spec.rescore is not None:
        raise InvalidOption(
            f"codes of your own have no rescore code, which only a binarizer can ask for: leave '/{spec.rescore}' out",
            key="code",
        )
    return Version.raw(0, spec)


def _of_bundle(bundle_id: str, code: str | None, bundles: BundleRegistry) -> Version:
    version = Version.of_bundle(0, bundles.get(bundle_id))
    if code is not None and CodeSpec.parse(code) != version.spec:
        raise InvalidOption(
            f"bundle '{bundle_id}' makes codes '{version.spec}', not '{code}'; leave 'code' out", key="code"
        )
    return version
