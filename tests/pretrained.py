"""Text-to-video pipelines of diffusers with tiny random weights: the classes that people use, a second or less each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIZE = 32
"""px of their clips."""


def clip_tokenizer() -> Any:
    """Letters, alone and at the end of a word; no merges."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77)


def clip_text(width: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(
        vocab_size=514, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1, num_attention_heads=4,
        bos_token_id=512, eos_token_id=513, pad_token_id=513, projection_dim=width,
    ))  # fmt: skip


def t5() -> tuple[Any, Any]:
    """Tokenizer and encoder, 32 wide."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(33, 127))]
    config = T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    return T5Tokenizer(vocab=pieces, extra_ids=0), T5EncoderModel(config)


def autoencoder(**changes: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **changes,
    )  # fmt: skip


def ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="linear", clip_sample=False)


def modelscope() -> Any:
    from diffusers import TextToVideoSDPipeline, UNet3DConditionModel

    unet = UNet3DConditionModel(
        sample_size=SIZE // 2, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=32, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    return TextToVideoSDPipeline(autoencoder(), clip_text(32), clip_tokenizer(), unet, ddim())


def image_unet(width: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 2, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=width, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip


def zero() -> Any:
    from diffusers import TextToVideoZeroPipeline

    return TextToVideoZeroPipeline(
        autoencoder(),
        clip_text(32),
        clip_tokenizer(),
        image_unet(32),
        ddim(),
        None,
        None,
        requires_safety_checker=False,
    )


def animatediff() -> Any:
    from diffusers import AnimateDiffPipeline, MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=4
    )
    return AnimateDiffPipeline(autoencoder(), clip_text(8), clip_tokenizer(), image_unet(8), adapter, ddim())


def cogvideox() -> Any:
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=4,
        text_embed_dim=32, num_layers=2, sample_width=4, sample_height=4, sample_frames=9, patch_size=2,
        max_text_seq_length=226,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4,
    )  # fmt: skip
    return CogVideoXPipeline(*t5(), vae, transformer, CogVideoXDDIMScheduler())


def ltx() -> Any:
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
        num_layers=1, caption_channels=32,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5, patch_size=1,
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, timestep_conditioning=False,
    )  # fmt: skip
    tokenizer, encoder = t5()
    return LTXPipeline(FlowMatchEulerDiscreteScheduler(), vae, encoder, tokenizer, transformer)


def wan() -> Any:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer, _ = t5()
    encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    )
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1] * 4, num_res_blocks=1)
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2,
        cross_attn_norm=True,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanPipeline(tokenizer, encoder, vae, scheduler, transformer)


def latte() -> Any:
    from diffusers import LattePipeline, LatteTransformer3DModel

    transformer = LatteTransformer3DModel(
        sample_size=SIZE // 2, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3,
        caption_channels=32, in_channels=4, out_channels=8, cross_attention_dim=24, attention_bias=True,
        activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_elementwise_affine=False, video_length=4,
    )  # fmt: skip
    tokenizer, encoder = t5()
    return LattePipeline(tokenizer, encoder, autoencoder(), transformer, ddim())


def mochi() -> Any:
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    transformer = MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16,
        text_embed_dim=32, time_embed_dim=4, in_channels=12, max_sequence_length=16,
    )  # fmt: skip
    torch.nn.init.normal_(transformer.pos_frequencies)
    vae = AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5,
    )  # fmt: skip
    tokenizer, encoder = t5()
    return MochiPipeline(FlowMatchEulerDiscreteScheduler(), vae, encoder, tokenizer, transformer)


def hunyuan() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )
    from transformers import LlamaConfig, LlamaModel, LlamaTokenizer

    names = ["<unk>", "<s>", "</s>", "<pad>", "▁", *map(chr, range(33, 127))]
    tokenizer = LlamaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], pad_token="<pad>")
    encoder = LlamaModel(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=3,
    ))  # fmt: skip
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    return HunyuanVideoPipeline(encoder, tokenizer, transformer, vae, scheduler, clip_text(8), clip_tokenizer())


PIPELINES: dict[str, Callable[[], Any]] = {
    "modelscope": modelscope, "zero": zero, "animatediff": animatediff, "cogvideox": cogvideox, "ltx": ltx,
    "wan": wan, "latte": latte, "mochi": mochi, "hunyuan": hunyuan,
}  # fmt: skip


def pipeline_folder(name: str, folder: Path) -> Path:
    """A saved pipeline of that name, the same each time."""
    torch.manual_seed(0)
    PIPELINES[name]().save_pretrained(folder / name)
    return folder / name
