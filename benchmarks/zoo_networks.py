"""Networks that no one here wrote: those of kecam, KerasHub, keras-unet-collection and Keras.

    pip install "inshape[zoo]"

Each is built by its own constructor at any input shape, with random weights. Of each family the
smallest network is taken, with ten classes and without a softmax where its constructor allows that,
so that its answers to two pictures lie apart.

kecam (keras_cv_attention_models) 1.4 was written for Keras 2 and for ``keras_core``, the name that
Keras 3 had before its release. `_open_kecam` gives Keras 3 that name again.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import keras

Shape = tuple[int | None, int | None, int]


@dataclass(frozen=True, slots=True)
class Network:
    """A network and how it is built.

    Attributes:
        name: its library and its own name.
        package: what must be installed.
        make: its constructor, by input shape.
        native: the shape that it is built at first.
    """

    name: str
    package: str
    make: Callable[[Shape], keras.Model]
    native: Shape = (128, 128, 3)

    @property
    def is_installed(self) -> bool:
        """Whether its package is here; it is not imported."""
        return importlib.util.find_spec(self.package) is not None


def networks() -> Iterator[Network]:
    """All of them; nothing is imported or built."""
    for line in _KECAM.split():
        module, names = line.split(":")
        for name in names.split(","):
            make = partial(_kecam, module, name)
            yield Network(f"kecam/{name}", "keras_cv_attention_models", make)
    for name, make in _HUB.items():
        yield Network(f"keras_hub/{name}", "keras_hub", make)
    for name, arguments in _UNETS.items():
        make = partial(_unet, name, arguments)
        yield Network(f"unet_collection/{name}", "keras_unet_collection", make)
    for way, arguments in _APPLICATION_WAYS.items():
        for name in _APPLICATIONS:
            any_size = way == "any size"
            native = (None, None, 3) if any_size else (128, 128, 3)
            make = partial(_application, name, arguments)
            yield Network(f"applications/{name} {way}", "keras", make, native)


def _application(name: str, arguments: dict[str, Any], shape: Shape) -> keras.Model:
    return getattr(keras.applications, name)(input_shape=shape, weights=None, **arguments)


_APPLICATION_WAYS: dict[str, dict[str, Any]] = {
    "top": {"include_top": True, "classifier_activation": None},
    "no top": {"include_top": False},
    "any size": {"include_top": False},
}
"""With its classifier, without it, and without it for any size, as people build them."""
_APPLICATIONS = (
    "MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large EfficientNetB0 EfficientNetV2B0 "
    "ResNet50 ResNet50V2 DenseNet121 InceptionV3 Xception NASNetMobile ConvNeXtTiny VGG16"
).split()


def _kecam(module: str, name: str, shape: Shape) -> keras.Model:
    make = getattr(_open_kecam(module), name)
    wanted = {"classifier_activation": None, "num_classes": 10}
    known = inspect.signature(make).parameters
    arguments = {key: value for key, value in wanted.items() if key in known}
    return make(input_shape=shape, pretrained=None, **arguments)


@cache
def _open_kecam(module: str) -> Any:
    """A module of kecam, which takes Keras 3 for ``keras_core``."""
    os.environ["KECAM_BACKEND"] = "keras_core"
    sys.modules["keras_core"] = keras
    for name in ("layers", "models", "utils", "initializers", "callbacks", "metrics", "ops"):
        sys.modules[f"keras_core.{name}"] = getattr(keras, name)
    package = "keras_cv_attention_models"
    if package not in sys.modules:
        # The packages' own imports also bring in training, which wants PyTorch.
        for name in (package, f"{package}.coco", f"{package}.imagenet"):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            bare = types.ModuleType(name)
            bare.__path__ = list(spec.submodule_search_locations or ())
            sys.modules[name] = bare
        # What is made while Keras infers shapes would belong to a graph that is thrown away.
        functional = importlib.import_module(f"{package}.keras_core_functional")
        functional.convert_to_tensor = _constant
        _allow_slashes()
        _forget_sparsity()
        importlib.import_module(f"{package}.attention_layers")  # first, as the package has it
    return importlib.import_module(f"{package}.{module}")


def _constant(value: Any, dtype: Any = None, **_: Any) -> Any:
    if keras.backend.backend() != "tensorflow":
        return keras.ops.convert_to_tensor(value, dtype)
    import tensorflow as tf

    with tf.init_scope():
        return tf.convert_to_tensor(value, dtype)


def _allow_slashes() -> None:
    """Take names with a slash, which Keras 2 allowed."""
    from keras.src.ops.operation import Operation

    original = Operation.__init__

    def without_slashes(self: Any, name: str | None = None) -> None:
        original(self, name.replace("/", "_") if isinstance(name, str) else name)

    Operation.__init__ = without_slashes


def _forget_sparsity() -> None:
    """Keras 3 takes the product of a symbol and a number for a sparse tensor."""
    original = keras.KerasTensor.__init__

    def dense(self: Any, *args: Any, sparse: bool = False, **kwargs: Any) -> None:
        original(self, *args, **kwargs)

    keras.KerasTensor.__init__ = dense


_KECAM = """
ghostnet:GhostNet_050,GhostNetV2_100
mobilenetv3_family.mobilenetv3:MobileNetV3Small050
mobilenetv3_family.lcnet:LCNet050
mobilenetv3_family.tinynet:TinyNetE
mobilenetv3_family.fbnetv3:FBNetV3B
mobilevit:MobileViT_XXS,MobileViT_V2_050
efficientformer:EfficientFormerL1,EfficientFormerV2S0
efficientnet:EfficientNetV2B0,EfficientNetV1Lite0
resnet_family:RegNetY040,RegNetZB16,ResNet50D,ResNeXt50,ResNet51Q
resnest:ResNest50
botnet:BotNet26T,BotNextECA26T
coatnet:CoAtNet0
edgenext:EdgeNeXt_XX_Small
fasternet:FasterNetT0
levit:LeViT128S
mlp_family.mlp_mixer:MLPMixerS32
mlp_family.res_mlp:ResMLP12
mlp_family.gated_mlp:GMLPTiny16
mlp_family.wave_mlp:WaveMLP_T
swin_transformer_v2:SwinTransformerV2Tiny_window8
convnext:ConvNeXtV2Atto,ConvNeXtTiny
inceptionnext:InceptionNeXtTiny
vanillanet:VanillaNet5
repvit:RepViT_M09
fastvit:FastViT_T8,FastViT_SA12
efficientvit:EfficientViT_B0,EfficientViT_M0
hornet:HorNetTiny
iformer:IFormerSmall
maxvit:MaxViT_Tiny
moganet:MogaNetXtiny
pvt:PVT_V2B0
tinyvit:TinyViT_5M
uniformer:UniformerSmall32
gcvit:GCViT_XXTiny
gpvit:GPViT_L1
davit:DaViT_T
cmt:CMTTiny
coat:CoaTLiteTiny
cotnet:CotNet50
cspnext:CSPNeXtTiny
caformer:CAFormerS18,ConvFormerS18
beit:ViTTinyPatch16,FlexiViTSmall,EVA02TinyPatch14,DINOv2_ViT_Small14
hiera:HieraTiny
fastervit:FasterViT0
nfnets:ECA_NFNetL0
volo:VOLO_d1
yolox:YOLOXNano
yolov7:YOLOV7_Tiny
yolov8:YOLOV8_N,YOLOV8_N_SEG,YOLO_NAS_S
"""
"""By module. HaloNet and NAT are left out: Keras 3 cuts patches with an identity matrix, which is
tens of gigabytes for theirs."""


def _hub() -> Any:
    # Nothing of Keras is imported to list the networks, KerasHub least of all.
    return importlib.import_module("keras_hub").models


def _encoder(name: str, **arguments: Any) -> Callable[[Shape], keras.Model]:
    return lambda shape: getattr(_hub(), name)(image_shape=shape, **arguments)


def _classifier(encoder: Callable[[Shape], keras.Model]) -> Callable[[Shape], keras.Model]:
    return lambda shape: _hub().ImageClassifier(backbone=encoder(shape), num_classes=10)


_RESNET = _encoder(
    "ResNetBackbone",
    input_conv_filters=[64],
    input_conv_kernel_sizes=[7],
    stackwise_num_filters=[64, 128, 256, 512],
    stackwise_num_blocks=[2, 2, 2, 2],
    stackwise_num_strides=[1, 2, 2, 2],
    block_type="basic_block",
)
_RESNET_VD = _encoder(
    "ResNetBackbone",
    input_conv_filters=[32, 32, 64],
    input_conv_kernel_sizes=[3, 3, 3],
    stackwise_num_filters=[64, 128, 256, 512],
    stackwise_num_blocks=[2, 2, 2, 2],
    stackwise_num_strides=[1, 2, 2, 2],
    block_type="basic_block_vd",
)
_RESNET_V2 = _encoder(
    "ResNetBackbone",
    input_conv_filters=[64],
    input_conv_kernel_sizes=[7],
    stackwise_num_filters=[64, 128, 256, 512],
    stackwise_num_blocks=[2, 2, 2, 2],
    stackwise_num_strides=[1, 2, 2, 2],
    block_type="bottleneck_block",
    use_pre_activation=True,
)
_MIT = _encoder(
    "MiTBackbone",
    num_layers=4,
    hidden_dims=[32, 64, 160, 256],
    layerwise_depths=[2, 2, 2, 2],
    layerwise_num_heads=[1, 2, 5, 8],
    layerwise_sr_ratios=[8, 4, 2, 1],
    layerwise_patch_sizes=[7, 3, 3, 3],
    layerwise_strides=[4, 2, 2, 2],
    max_drop_path_rate=0.1,
)
_VIT = _encoder(
    "ViTBackbone", patch_size=(16, 16), num_layers=3, num_heads=3, hidden_dim=96, mlp_dim=192
)
_DINO = _encoder(
    "DINOV2Backbone",
    patch_size=14,
    num_layers=4,
    hidden_dim=64,
    num_heads=2,
    intermediate_dim=128,
    position_embedding_shape=(126, 126),
)


def _deeplab(shape: Shape) -> keras.Model:
    backbone = _hub().DeepLabV3Backbone(
        image_encoder=_RESNET_VD(shape),
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
        image_shape=shape,
    )
    return _hub().DeepLabV3ImageSegmenter(backbone=backbone, num_classes=4)


def _segformer(shape: Shape) -> keras.Model:
    backbone = _hub().SegFormerBackbone(image_encoder=_MIT(shape), projection_filters=64)
    return _hub().SegFormerImageSegmenter(backbone=backbone, num_classes=4)


def _retinanet(shape: Shape) -> keras.Model:
    return _hub().RetinaNetBackbone(
        image_encoder=_RESNET(shape), min_level=3, max_level=6, use_p5=False, image_shape=shape
    )


def _basnet(shape: Shape) -> keras.Model:
    return _hub().BASNetBackbone(
        image_encoder=_RESNET((None, None, 3)), num_classes=1, image_shape=shape
    )


def _hub_vit(shape: Shape) -> keras.Model:
    return _hub().ViTImageClassifier(backbone=_VIT(shape), num_classes=10)


def _hub_efficientnet(shape: Shape) -> keras.Model:
    return _hub().EfficientNetBackbone(
        input_shape=shape,
        stackwise_width_coefficients=[1.0] * 5,
        stackwise_depth_coefficients=[1.0] * 5,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5],
        stackwise_num_repeats=[1, 2, 2, 3, 3],
        stackwise_input_filters=[32, 16, 24, 40, 80],
        stackwise_output_filters=[16, 24, 40, 80, 112],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1],
        stackwise_squeeze_and_excite_ratios=[0.25] * 5,
        stackwise_block_types=["v1"] * 5,
        stackwise_force_input_filters=[0] * 5,
        stackwise_nores_option=[False] * 5,
    )


_HUB: dict[str, Callable[[Shape], keras.Model]] = {
    "ResNet18": _RESNET,
    "ResNet18vd": _RESNET_VD,
    "ResNet26V2": _RESNET_V2,
    "ResNet18 classifier": _classifier(_RESNET),
    "CSPDarkNet": _encoder(
        "CSPNetBackbone",
        stem_filters=32,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2, 2, 2],
        stackwise_strides=[2, 2, 2, 2],
        stackwise_num_filters=[32, 64, 128, 256],
        bottle_ratio=[0.5],
        block_ratio=[1.0],
        expand_ratio=[1.0],
        block_type="dark_block",
        stage_type="dark",
    ),
    "DenseNet121": _encoder("DenseNetBackbone", stackwise_num_repeats=[6, 12, 24, 16]),
    "VGG11": _encoder(
        "VGGBackbone",
        stackwise_num_repeats=[1, 1, 2, 2, 2],
        stackwise_num_filters=[64, 128, 256, 512, 512],
    ),
    "Xception": _encoder(
        "XceptionBackbone",
        stackwise_conv_filters=[[32, 64], [128, 128], [256, 256], [384, 512]],
        stackwise_pooling=[False, True, True, False],
    ),
    "EfficientNet": _hub_efficientnet,
    "HGNetV2": _encoder(
        "HGNetV2Backbone",
        depths=[1, 2, 4],
        embedding_size=32,
        hidden_sizes=[64, 128, 256],
        stem_channels=[3, 16, 32],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[
            (32, 16, 64, 1, 1, 3),
            (64, 32, 128, 2, 1, 3),
            (128, 64, 256, 4, 1, 3),
        ],
        apply_downsample=[False, True, True],
        use_lightweight_conv_block=[False, False, False],
    ),
    "MobileNetV3": _encoder(
        "MobileNetBackbone",
        stackwise_expansion=[[40, 56], [64, 144, 144], [72, 72], [144, 288, 288]],
        stackwise_num_blocks=[2, 3, 2, 3],
        stackwise_num_filters=[[16, 16], [24, 24, 24], [24, 24], [48, 48, 48]],
        stackwise_kernel_size=[[3, 3], [5, 5, 5], [5, 5], [5, 5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1, 1], [1, 1], [2, 1, 1]],
        stackwise_se_ratio=[[None, None], [0.25] * 3, [0.3, 0.3], [0.3, 0.25, 0.25]],
        stackwise_activation=[
            ["relu"] * 2,
            ["hard_swish"] * 3,
            ["hard_swish"] * 2,
            ["hard_swish"] * 3,
        ],
        stackwise_padding=[[1, 1], [2, 2, 2], [2, 2], [2, 2, 2]],
        output_num_filters=288,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=288,
        squeeze_and_excite=0.5,
    ),
    "MobileNetV5": _encoder(
        "MobileNetV5Backbone",
        stackwise_block_types=[["er"], ["uir", "uir"]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[24], [48, 48]],
        stackwise_strides=[[2], [2, 1]],
        stackwise_act_layers=[["relu"], ["relu", "relu"]],
        stackwise_exp_ratios=[[4.0], [6.0, 6.0]],
        stackwise_se_ratios=[[0.0], [0.0, 0.0]],
        stackwise_dw_kernel_sizes=[[0], [5, 5]],
        stackwise_dw_start_kernel_sizes=[[0], [0, 0]],
        stackwise_dw_end_kernel_sizes=[[0], [0, 0]],
        stackwise_exp_kernel_sizes=[[3], [0, 0]],
        stackwise_pw_kernel_sizes=[[1], [0, 0]],
        stackwise_num_heads=[[0], [0, 0]],
        stackwise_key_dims=[[0], [0, 0]],
        stackwise_value_dims=[[0], [0, 0]],
        stackwise_kv_strides=[[0], [0, 0]],
        stackwise_use_cpe=[[False], [False, False]],
        use_msfa=False,
    ),
    "MiT": _MIT,
    "MiT classifier": _classifier(_MIT),
    "SegFormer": _segformer,
    "DeepLabV3+": _deeplab,
    "RetinaNet FPN": _retinanet,
    "BASNet": _basnet,
    "ViT": _hub_vit,
    "DeiT": _encoder(
        "DeiTBackbone",
        patch_size=16,
        num_layers=3,
        num_heads=3,
        hidden_dim=96,
        intermediate_dim=192,
    ),
    "DINOv2": _DINO,
    "DINOv3": _encoder(
        "DINOV3Backbone",
        patch_size=16,
        num_layers=3,
        hidden_dim=64,
        num_heads=2,
        intermediate_dim=128,
    ),
    "Swin": _encoder(
        "SwinTransformerBackbone",
        embed_dim=48,
        depths=(2, 2, 2),
        num_heads=(3, 6, 12),
        window_size=4,
    ),
    "ViTDet": _encoder(
        "ViTDetBackbone",
        patch_size=16,
        hidden_size=64,
        num_layers=3,
        intermediate_dim=128,
        num_heads=2,
        global_attention_layer_indices=[2],
        num_output_channels=32,
        window_size=4,
    ),
}


def _unet(name: str, arguments: dict[str, Any], shape: Shape) -> keras.Model:
    return getattr(importlib.import_module("keras_unet_collection.models"), name)(
        shape, **arguments
    )


_DEEP: dict[str, Any] = {
    "filter_num": [8, 16, 32, 64],
    "n_labels": 3,
    "batch_norm": True,
    "output_activation": None,
}
_AGGREGATED = {
    "filter_num_down": [8, 16, 32, 64],
    "n_labels": 3,
    "batch_norm": True,
    "output_activation": None,
}
_UNETS: dict[str, dict[str, Any]] = {
    "unet_2d": _DEEP,
    "vnet_2d": {**_DEEP, "pool": False, "unpool": False},
    "unet_plus_2d": {**_DEEP, "pool": "max", "unpool": "nearest"},
    "r2_unet_2d": _DEEP,
    "att_unet_2d": {**_DEEP, "pool": False, "unpool": "bilinear"},
    "u2net_2d": _AGGREGATED,
    "unet_3plus_2d": {**_AGGREGATED, "filter_num_skip": "auto", "filter_num_aggregate": "auto"},
}
"""Those of the collection that Keras 3 can build: ``resunet_a_2d``, ``transunet_2d`` and
``swin_unet_2d`` call TensorFlow on Keras's own symbols."""
