"""NeoX's YAML files of somebody else's model: which of their keys change the forward pass, and what they say.

The keys are those of gpt-neox v1.0, 2.0 and main (megatron/neox_arguments), the names of 2021's first versions, and
DeepSpeed's that may stand in the same file. NeoX takes hyphens and underscores for the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.neox.architecture import PYTHIA, Said, apart, shown
from scripts.study.catalogue import Size

SIZES = {  # NeoX's key to ours
    "num_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "max_position_embeddings": "sequence_length",
}
# Keys whose other values make another model than the trainer's: (ours, NeoX's default)
FIXED: dict[str, tuple[Any, Any]] = {
    "pos_emb": ("rotary", "learned"),
    "rotary_pct": (0.25, 1.0),
    "rotary_emb_base": (10000, 10000),
    "no_weight_tying": (True, False),
    "gpt_j_residual": (True, False),
    "gpt_j_tied": (False, False),
    "norm": ("layernorm", "layernorm"),
    "layernorm_epsilon": (1e-5, 1e-5),
    "activation": ("gelu", "gelu"),
    "geglu": (False, False),
    "mlp_type": ("regular", "regular"),
    "attention_config": (None, None),
    "sliding_window_width": (None, None),
    "num_kv_heads": (None, None),
    "use_qk_layernorm": (False, False),
    "use_bias_in_norms": (True, True),
    "use_bias_in_attn_linear": (True, True),
    "use_bias_in_mlp": (True, True),
    "use_mup": (False, False),
    "moe_num_experts": (1, 1),
    "num_unique_layers": (None, None),
    "soft_prompt_tuning": (None, None),
}
WHOLE_ATTENTION = {"global", "flash", "all"}  # kinds of attention that see all tokens before; "all" is a count
TANH = ("bias_gelu_fusion", "openai_gelu")  # keys that make GELU's tanh form of the default, the error function's
# Keys that leave the forward pass as it is: they change precision and kernels, initial weights, shapes that the tensors
# show, dropout (none in evaluation), training, data and logs; or they only count where a key of FIXED is another.
HARMLESS = frozenset(
    """
    account activation_checkpointing adlr_autoresume adlr_autoresume_interval allow_chopped amp
    apply_query_key_layer_scaling attention_dropout attention_softmax_in_fp32 autotuning autotuning_run
    base_shapes_file batch_size bf16 bias_dropout_fusion castalia char_level_ppl checkpoint checkpoint_activations
    checkpoint_factor checkpoint_in_cpu checkpoint_num_layers checkpoint_scale
    checkpoint_validation_with_forward_pass clip_grad comet_experiment_name comet_others comet_project comet_tags
    comet_workspace comment comms_logger communication_data_type config_files contiguous_checkpointing coord_check
    create_moe_param_group csv_monitor curriculum_learning curriculum_seqlen data_efficiency data_impl
    data_parallel_size data_path data_types dataset_impl deepscale deepscale_config deepspeed
    deepspeed_activation_checkpointing deepspeed_extra_args deepspeed_jsrun deepspeed_mpi deepspeed_slurm
    detect_nvlink_pairs dim_att distributed_backend do_test do_train do_valid dpo_beta dpo_fp32 dpo_reference_free
    dump_state dynamic_loss_scale elasticity enable_expert_tensor_parallelism eod_mask_loss eval_batch_size
    eval_interval eval_iters eval_results_prefix eval_tasks exclude exit_interval expansion_factor expert_interval
    extra_save_iters ffn_dim finetune flops_profiler force_multi fp16 fp16_lm_cross_entropy fp32_allreduce gas
    git_hash global_num_gpus gmlp_attn_dim gradient_accumulation_steps gradient_clipping
    gradient_noise_scale_cpu_offload gradient_noise_scale_n_batches gradient_predivide_factor head_size
    hidden_dropout hostfile hysteresis include init_method init_method_std intermediate_size is_pipe_parallel
    iteration keep_last_n_checkpoints kto_beta kto_desirable_weight kto_fp32 kto_undesirable_weight launcher
    layernorm_fusion lazy_mpu_init load local_rank log_dir log_grad_norm log_grad_pct_zeros log_gradient_noise_scale
    log_interval log_optimizer_states log_param_norm loss_scale loss_scale_window lr lr_decay_fraction
    lr_decay_iters lr_decay_style make_vocab_size_divisible_by mamba_causal_conv_fusion mamba_inner_func_fusion
    mamba_selective_fp32_params mamba_selective_scan_fusion mamba_use_bias_in_conv mamba_use_bias_in_linears
    master_addr master_port maximum_tokens memory_profiling memory_profiling_path merge_file min_lr min_scale
    mlp_multiple_of mmap_warmup model_parallel_size moe_eval_capacity_factor moe_expert_parallel_size moe_glu
    moe_jitter_eps moe_lbl_in_fp32 moe_loss_coeff moe_min_capacity moe_token_dropping moe_top_k
    moe_train_capacity_factor moe_type moe_use_residual mup_attn_temp mup_embedding_mult mup_init_scale
    mup_output_temp mup_rp_embedding_mult mup_width_scale no_load_optim no_load_rng no_save_optim no_save_rng
    no_ssh_check num_gpus num_nodes num_samples num_workers onnx_safe opt_pos_emb_offset optimizer optimizer_type
    output_layer_init_method output_layer_parallelism override_lr_scheduler pack_impl padded_vocab_size
    param_sharing_style partition_activations pipe_parallel_size pipe_partition_method precision
    precompute_model_name prescale_gradients profile profile_backward profile_step_start profile_step_stop
    prompt_end rank recompute return_logits rms_norm_epsilon rmsnorm_fusion rope_fusion rotary_save_freqs_buffer
    rpe_max_distance rpe_num_buckets s3_chunk_size s3_path sample_input_file sample_output_file save
    save_base_shapes save_interval save_iters scaled_masked_softmax_fusion scaled_upper_triang_masked_softmax_fusion
    scalenorm_epsilon scheduler seed seq_length sequence_parallel short_seq_prob sparse_attention sparse_gradients
    sparsity_config split steps_per_print synchronize_each_layer temperature tensorboard tensorboard_dir
    text_gen_type tokenizer_type top_k top_p train_batch_size train_epochs train_impl train_iters
    train_micro_batch_size_per_gpu use_bnb_optimizer use_checkpoint_lr_scheduler use_comet use_cpu_initialization
    use_flashattn_swiglu use_shared_fs use_tutel use_wandb user_script vocab_file wall_clock_breakdown wandb
    wandb_group wandb_host wandb_init_all_ranks wandb_project wandb_team warmup weight_by_num_documents weight_decay
    weighted_sampler_alpha world_size z_loss zero_allgather_bucket_size zero_allow_untested_optimizer
    zero_contiguous_gradients zero_optimization zero_reduce_bucket_size zero_reduce_scatter zero_stage
    """.split()  # noqa: SIM905  a list of them fills pages
)
DATA = ("_data_paths", "_data_weights")  # endings of keys that name texts


@dataclass(frozen=True)
class Told:
    """What NeoX's YAML files say together: sizes and the form of GELU, and their keys that are not known here."""

    said: list[Said]
    unknown: list[str]


def files_in(*folders: Path) -> list[Path]:
    """NeoX's configuration files in folders, or in `configs` below them, where NeoX saves them."""
    places = [place for folder in folders for place in (folder, folder / "configs")]
    return sorted({path for place in places for path in place.glob("*.y*ml") if path.is_file()})


def read(files: Iterable[Path]) -> Told:
    """What the files say; raises UserError, naming file, key and value, for every key that makes another model.

    Without files nothing is said. Values that only repeat a default are fine, in either spelling.
    """
    keys = _keys(files)
    if not keys:
        return Told([], [])
    first = next(path for _, path in keys.values())
    lines = []
    for key, (wanted, default) in FIXED.items():
        value, path = keys.get(key, (default, first))
        if not _equal(_plain(key, value, keys), wanted):
            is_what = f"is {shown(value)}" if key in keys else f"is not given, which is {default!r} in NeoX"
            spelled = key.replace("_", "-")
            lines.append(f"{path}: {spelled} {is_what}; only models with {spelled}: {_wanted(key, wanted)} are read")
    said = []
    for key, ours in SIZES.items():
        if key in keys:
            value, path = keys[key]
            if type(value) is not int or value < 1:
                lines.append(f"{path}: {key.replace('_', '-')} is {shown(value)}, expected a whole number from 1 on")
            said.append(Said(ours, value, str(path)))
    told, odd = _activation(keys, first)
    if lines := [*lines, *odd]:
        raise UserError("\n".join(lines))
    known = {*SIZES, *FIXED, *TANH, *HARMLESS}
    return Told([*said, told], sorted(key for key in keys if key not in known and not key.endswith(DATA)))


def read_beside(*folders: Path) -> Told:
    """`read` of `files_in` the folders of a checkpoint."""
    return read(files_in(*folders))


def said_of(size: Size) -> list[Said]:
    """What a row of the size catalogue says."""
    return [Said(key, getattr(size, key), f"the catalogue's {size.name}") for key in ("layers", "width", "heads")]


def refuse_another(size: Size, said: Iterable[Said], where: str) -> None:
    """Hold what is said of a checkpoint against a size and what the trainer computes.

    Raises UserError, naming `where`, with every disagreement. The length of rows may differ.
    """
    ours = [*said_of(size), Said("activation", PYTHIA.activation, "the trainer here")]
    keys = {one.key for one in ours}
    refuse_disagreement([*(one for one in said if one.key in keys), *ours], where)


def refuse_disagreement(said: Iterable[Said], where: str) -> None:
    """Raise UserError, naming `where`, with every fact on which places disagree."""
    if lines := apart(said):
        raise UserError(f"{where}: what is said of this model disagrees\n  " + "\n  ".join(lines))


def unknown_lines(unknown: list[str]) -> list[str]:
    """A sentence on keys that are not known here; none without such keys."""
    if not unknown:
        return []
    names = ", ".join(shown(key)[1:-1] for key in unknown[:20])
    more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
    return [f"keys of its NeoX configuration that are not known here, and might change the model: {names}{more}"]


def _keys(files: Iterable[Path]) -> dict[str, tuple[Any, Path]]:
    """Values by key, spelled with underscores; raises UserError for files that can't be read or disagree."""
    keys: dict[str, tuple[Any, Path]] = {}
    for path in files:
        for spelled, value in read_yaml(path).items():
            key = spelled.replace("-", "_")
            before, place = keys.setdefault(key, (value, path))
            if before != value and key not in HARMLESS:
                raise UserError(
                    f"{path}: {spelled} is {shown(value)}, but {shown(before)} by {place}\n  write:   it once"
                )
    return keys


def _plain(key: str, value: Any, keys: dict[str, tuple[Any, Path]]) -> Any:
    """The value, or None where it is another way of saying the default."""
    if key == "attention_config" and isinstance(value, list) and set(_strings(value)) <= WHOLE_ATTENTION:
        return None
    if key == "soft_prompt_tuning" and isinstance(value, dict) and value.get("enabled", True) is False:
        return None
    same = {"num_kv_heads": "num_attention_heads", "num_unique_layers": "num_layers"}.get(key)
    return None if same in keys and value == keys[same][0] else value


def _strings(value: Any) -> Iterator[str]:
    """The kinds of attention named in nested lists; numbers are their counts, anything else is a kind of its own."""
    for part in value:
        if isinstance(part, list):
            yield from _strings(part)
        elif type(part) is not int:
            yield str(part)


def _wanted(key: str, wanted: Any) -> str:
    return {"attention_config": "global or flash", "num_kv_heads": "num-attention-heads"}.get(key, repr(wanted))


def _equal(value: Any, wanted: Any) -> bool:
    """Whether a value is the wanted one; numbers may be spelled 1e-5, which YAML 1.1 reads as text."""
    if isinstance(wanted, bool) or not isinstance(wanted, float | int):
        return type(value) is type(wanted) and bool(value == wanted)
    try:
        return not isinstance(value, bool) and float(value) == wanted
    except (TypeError, ValueError, OverflowError):
        return False


def _activation(keys: dict[str, tuple[Any, Path]], first: Path) -> tuple[Said, list[str]]:
    """The form of GELU, and sentences on what is said of it that NeoX would refuse."""
    flags = {key: keys[key] for key in (*TANH, "onnx_safe") if key in keys}
    odd = [
        f"{path}: {key.replace('_', '-')} is {shown(value)}, expected true or false"
        for key, (value, path) in flags.items()
        if not isinstance(value, bool)
    ]
    tanh = [key for key in TANH if key in flags and flags[key][0] is True]
    safe = "onnx_safe" in flags and flags["onnx_safe"][0] is True
    if tanh and safe:
        odd.append(f"{flags['onnx_safe'][1]}: onnx-safe and {tanh[0].replace('_', '-')} are both true, as in no NeoX")
    if tanh:
        return Said("activation", "tanh", f"{flags[tanh[0]][1]} ({tanh[0].replace('_', '-')})"), odd
    if "bias_gelu_fusion" in flags:
        return Said("activation", "erf", f"{flags['bias_gelu_fusion'][1]} (bias-gelu-fusion: false)"), odd
    return Said("activation", "erf", f"{first} (without bias-gelu-fusion)"), odd
