"""Writes tiny random models of every family and option with the logits that transformers computes.

usage: model_oracle.py OUT
OUT/<case>/         the model as save_pretrained writes it
OUT/<case>/expected.safetensors   for each length n:
ids_n[n] and logits_n[n, vocab];
greedy_ids[300 + 40] and greedy_logits[40, vocab](decode steps);
                                  gradient_<parameter> of the mean next-token loss of ids_64; of
                                  stacked parameters the parts, under the names of the parts
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import (Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM, LlamaConfig,
                          LlamaForCausalLM, MistralConfig, MistralForCausalLM, Phi3Config,
                          Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

torch.set_num_threads(1)  # threads that wait for each other cost more than they bring here
LENGTHS = (1, 7, 64, 300)
DECODE_STEPS = 40
LAYER = "model.layers.0."
GRADIENTS = ("model.embed_tokens.weight", LAYER + "input_layernorm.weight",
             LAYER + "post_self_attn_layernorm.weight", LAYER + "post_mlp_layernorm.weight")
QKV, GATE_UP = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
BASE = dict(vocab_size=320, hidden_size=96, intermediate_size=160, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=512,
            bos_token_id=0, eos_token_id=1, pad_token_id=2)


def rope(kind, **parameters):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **parameters))


def longrope(original, pairs=16):
    # Not alike from pair to pair, nor between the two.
    return dict(rope("longrope", short_factor=[1.0 + 0.02 * i for i in range(pairs)],
                     long_factor=[1.5 + 0.3 * i for i in range(pairs)]),
                original_max_position_embeddings=original)


LLAMA, QWEN2, QWEN3 = (LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM), (
    Qwen3Config, Qwen3ForCausalLM)
MISTRAL, PHI3 = (MistralConfig, MistralForCausalLM), (Phi3Config, Phi3ForCausalLM)
GLM, GLM4 = (GlmConfig, GlmForCausalLM), (Glm4Config, Glm4ForCausalLM)
CASES = {
    "llama": (LLAMA, {}),
    "llama_tied": (LLAMA, dict(tie_word_embeddings=True)),
    "llama_attention_bias": (LLAMA, dict(attention_bias=True)),
    "llama_mlp_bias": (LLAMA, dict(mlp_bias=True, attention_bias=True)),
    "llama_linear": (LLAMA, rope("linear", factor=4.0)),
    "llama_dynamic": (LLAMA, dict(rope("dynamic", factor=4.0), max_position_embeddings=128)),
    "llama_llama3": (LLAMA, rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                 original_max_position_embeddings=64)),
    "llama_yarn": (LLAMA, rope("yarn", factor=4.0, original_max_position_embeddings=128)),
    "llama_yarn_mscale": (LLAMA, rope("yarn", factor=4.0, original_max_position_embeddings=128,
                                      mscale=0.7, mscale_all_dim=1.2, beta_fast=16.0, beta_slow=2.0,
                                      truncate=False)),
    "llama_mha_d80": (LLAMA, dict(head_dim=80, num_key_value_heads=4)),
    "llama_mqa_d96": (LLAMA, dict(head_dim=96, num_key_value_heads=1)),
    "llama_d128": (LLAMA, dict(head_dim=128)),
    "llama_d256_gqa3": (LLAMA, dict(head_dim=256, num_attention_heads=6)),
    "llama_d24_gqa5": (LLAMA, dict(hidden_size=100, head_dim=24, num_attention_heads=5, num_key_value_heads=1)),
    "llama_one_layer": (LLAMA, dict(num_hidden_layers=1)),
    "llama_yi": (LLAMA, dict(rope_parameters=dict(rope_type="default", rope_theta=5000000.0),
                             head_dim=None, num_attention_heads=8, num_key_value_heads=1,
                             rms_norm_eps=1e-5, pad_token_id=0, bos_token_id=1, eos_token_id=2)),
    "qwen2": (QWEN2, {}),
    "qwen2_tied": (QWEN2, dict(tie_word_embeddings=True)),
    "qwen2_window": (QWEN2, dict(use_sliding_window=True, sliding_window=50, max_window_layers=1)),
    "qwen2_yarn": (QWEN2, rope("yarn", factor=4.0, original_max_position_embeddings=128)),
    "qwen3": (QWEN3, {}),
    "qwen3_tied_bias": (QWEN3, dict(tie_word_embeddings=True, attention_bias=True)),
    "mistral": (MISTRAL, dict(sliding_window=None, head_dim=None)),
    "mistral_nemo": (MISTRAL, dict(sliding_window=None, head_dim=40, rms_norm_eps=1e-5)),
    "mistral_window": (MISTRAL, dict(sliding_window=50)),
    "mistral_window_tied": (MISTRAL, dict(sliding_window=130, tie_word_embeddings=True)),
    "phi3": (PHI3, {}),
    "phi3_window": (PHI3, dict(sliding_window=50)),
    "phi3_longrope": (PHI3, longrope(128)),
    "phi3_longrope_short": (PHI3, longrope(400)),
    "phi3_longrope_outgrown": (PHI3, dict(longrope(320), sliding_window=200)),
    "phi4_mini": (PHI3, dict(longrope(64, pairs=12), partial_rotary_factor=0.75,
                             tie_word_embeddings=True)),
    "phi4_mini_factors": (PHI3, dict(
        longrope(256, pairs=12), partial_rotary_factor=0.75, rope_parameters=dict(
            longrope(256, pairs=12)["rope_parameters"], factor=32.0, attention_factor=1.3))),
    "glm": (GLM, dict(head_dim=128, attention_bias=True)),
    "glm_tied_d40": (GLM, dict(head_dim=40, attention_bias=True, tie_word_embeddings=True)),
    "glm_no_bias": (GLM, dict(attention_bias=False)),
    "glm_linear": (GLM, dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0,
                                                  partial_rotary_factor=0.25))),
    "glm4": (GLM4, dict(head_dim=128, attention_bias=True)),
    "glm4_tied": (GLM4, dict(attention_bias=False, tie_word_embeddings=True)),
    "glm4_one_layer": (GLM4, dict(num_hidden_layers=1, num_key_value_heads=1)),
}
# Written as transformers 4 does, with what published files have beside it.
AS_TRANSFORMERS_4 = {
    "llama_llama3": {},
    "llama_yi": dict(rope_scaling=None, head_dim=None, pretraining_tp=1),
    "mistral": dict(rope_scaling=None, head_dim=None),
    "mistral_window": {},
    "phi3_longrope": dict(attention_bias=False, sliding_window=None),
    "phi4_mini": dict(attention_bias=False, sliding_window=262144, partial_rotary_factor=0.75),
    "glm": {},
    "glm4_tied": {},
}


def write_case(name, family, options, out):
    config_class, model_class = family
    options = {**BASE, **options}
    if family in (QWEN2, PHI3) or options["head_dim"] is None:
        options.pop("head_dim")
        options["hidden_size"] = 128  # head_dim 32
    config = config_class(**options)
    config._attn_implementation = "eager"
    torch.manual_seed(hash_seed(name))
    model = model_class(config).eval().float()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:  # biases start at zero and norms at one: make them count
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(2.0)  # attention that is not uniform
    folder = out / name
    model.save_pretrained(folder, max_shard_size="200KB" if name == "llama" else "5GB")
    if name in AS_TRANSFORMERS_4:
        as_transformers_4(folder, AS_TRANSFORMERS_4[name])
    generator = torch.Generator().manual_seed(7)
    expected = {}
    with torch.no_grad():
        for length in LENGTHS:
            ids = torch.randint(3, config.vocab_size, (length,), generator=generator)
            expected[f"ids_{length}"] = ids.float()
            expected[f"logits_{length}"] = model(ids[None]).logits[0].contiguous()
        decode = generate if name.endswith("outgrown") else decode_steps
        expected["greedy_ids"], expected["greedy_logits"] = decode(model, ids)
    ids = expected["ids_64"].long()[None]
    model(ids, labels=ids).loss.backward()
    for key, gradient in gradients(model):
        expected["gradient_" + key] = gradient.contiguous().clone()
    save_file(expected, str(folder / "expected.safetensors"))


def decode_steps(model, ids):
    state = model(ids[None], use_cache=True)
    tokens, rows = ids.tolist(), []
    for _ in range(DECODE_STEPS):
        token = int(state.logits[0, -1].argmax())
        tokens.append(token)
        state = model(torch.tensor([[token]]), past_key_values=state.past_key_values,
                      use_cache=True)
        rows.append(state.logits[0, -1].clone())
    return torch.tensor(tokens).float(), torch.stack(rows)


def generate(model, ids):
    """The same, slower, by transformers' own loop: it computes LongRoPE's cache again when it must."""
    model.generation_config.eos_token_id = None
    state = model.generate(ids[None], max_new_tokens=DECODE_STEPS + 1, do_sample=False,
                           output_logits=True, return_dict_in_generate=True)
    return state.sequences[0, :-1].float(), torch.cat(state.logits[1:])


def gradients(model):
    for key, parameter in model.named_parameters():
        block, name = key.removesuffix(".weight").rpartition(".")[::2]
        if key in GRADIENTS or block.startswith(LAYER) and name in QKV + GATE_UP:
            yield key, parameter.grad
        elif block == LAYER + "self_attn" and name == "qkv_proj":
            config = model.config
            head_dim = config.hidden_size // config.num_attention_heads
            sizes = [heads * head_dim for heads in (config.num_attention_heads,
                                                    config.num_key_value_heads,
                                                    config.num_key_value_heads)]
            for part, rows in zip(QKV, parameter.grad.split(sizes)):
                yield f"{block}.{part}.weight", rows
        elif block == LAYER + "mlp" and name == "gate_up_proj":
            for part, rows in zip(GATE_UP, parameter.grad.chunk(2)):
                yield f"{block}.{part}.weight", rows


def as_transformers_4(folder, changes):
    """Rewrites config.json in the older form."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    if parameters["rope_type"] == "longrope":
        parameters = dict(short_factor=parameters["short_factor"],
                          long_factor=parameters["long_factor"], type="longrope")
    if parameters != dict(rope_type="default"):
        config["rope_scaling"] = parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    config.update(changes)
    path.write_text(json.dumps(config))


def hash_seed(name):
    return sum((i + 1) * ord(letter) for i, letter in enumerate(name))


def main():
    out = pathlib.Path(sys.argv[1])
    for name, (family, options) in CASES.items():
        write_case(name, family, options, out)
    (out / "cases.json").write_text(json.dumps(list(CASES)))


main()
