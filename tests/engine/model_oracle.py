"""Writes tiny random models of every family and option with the logits that transformers computes.

usage: model_oracle.py OUT
OUT/<case>/         the model as save_pretrained writes it
OUT/<case>/expected.safetensors   for each length n: ids_n [n] and logits_n [n, vocab];
                                  greedy_ids [300 + 40] and greedy_logits [40, vocab] (decode steps);
                                  gradient_<parameter> of the mean next-token loss of ids_64
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import (LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

torch.set_num_threads(2)
LENGTHS = (1, 7, 64, 300)
DECODE_STEPS = 40
GRADIENTS = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
             "model.layers.0.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight")
BASE = dict(vocab_size=320, hidden_size=96, intermediate_size=160, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=512,
            bos_token_id=0, eos_token_id=1, pad_token_id=2)


def rope(kind, **parameters):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **parameters))


LLAMA, QWEN2, QWEN3 = (LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM), (
    Qwen3Config, Qwen3ForCausalLM)
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
    "qwen2": (QWEN2, {}),
    "qwen2_tied": (QWEN2, dict(tie_word_embeddings=True)),
    "qwen2_window": (QWEN2, dict(use_sliding_window=True, sliding_window=50, max_window_layers=1)),
    "qwen2_yarn": (QWEN2, rope("yarn", factor=4.0, original_max_position_embeddings=128)),
    "qwen3": (QWEN3, {}),
    "qwen3_tied_bias": (QWEN3, dict(tie_word_embeddings=True, attention_bias=True)),
}


def write_case(name, family, options, out):
    config_class, model_class = family
    options = {**BASE, **options}
    if family is QWEN2:
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
    if name == "llama_llama3":
        as_transformers_4(folder)
    generator = torch.Generator().manual_seed(7)
    expected = {}
    with torch.no_grad():
        for length in LENGTHS:
            ids = torch.randint(3, config.vocab_size, (length,), generator=generator)
            expected[f"ids_{length}"] = ids.float()
            expected[f"logits_{length}"] = model(ids[None]).logits[0].contiguous()
        state = model(ids[None], use_cache=True)
        tokens, rows = ids.tolist(), []
        for _ in range(DECODE_STEPS):
            token = int(state.logits[0, -1].argmax())
            tokens.append(token)
            state = model(torch.tensor([[token]]), past_key_values=state.past_key_values,
                          use_cache=True)
            rows.append(state.logits[0, -1].clone())
    expected["greedy_ids"] = torch.tensor(tokens).float()
    expected["greedy_logits"] = torch.stack(rows)
    ids = expected["ids_64"].long()[None]
    model(ids, labels=ids).loss.backward()
    for key in GRADIENTS:
        expected["gradient_" + key] = model.get_parameter(key).grad.contiguous()
    save_file(expected, str(folder / "expected.safetensors"))


def as_transformers_4(folder):
    """Rewrites config.json in the older form."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config))


def hash_seed(name):
    return sum((i + 1) * ord(letter) for i, letter in enumerate(name))


def main():
    out = pathlib.Path(sys.argv[1])
    for name, (family, options) in CASES.items():
        write_case(name, family, options, out)
    (out / "cases.json").write_text(json.dumps(list(CASES)))


main()
