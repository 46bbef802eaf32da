"""Writes a GGUF of a Llama shape with random bf16 weights and no vocabulary, for timing.

usage: write_gguf.py SHAPE OUT.gguf      SHAPE: 16m | 1b   (the shapes of `kvasir bench`)
Needs numpy and the gguf module of llama.cpp's source (PYTHONPATH=.../gguf-py).
"""

import sys

import gguf
import numpy as np

SHAPES = {
    "16m": dict(hidden=384, layers=8, heads=6, kv_heads=2, head_dim=64, inner=1024, vocab=8192, context=65536),
    "1b": dict(hidden=2048, layers=16, heads=32, kv_heads=8, head_dim=64, inner=8192, vocab=128256,
               context=131072),
}


def bf16(shape, random):
    values = random.standard_normal(shape, dtype=np.float32) * 0.02
    return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)


def main():
    shape, path = SHAPES[sys.argv[1]], sys.argv[2]
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(sys.argv[1])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(shape["vocab"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["inner"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name, n, k):
        writer.add_tensor(name, bf16((n, k), random), raw_dtype=gguf.GGMLQuantizationType.BF16)

    def vector(name, n):
        writer.add_tensor(name, np.ones(n, dtype=np.float32))

    q_size, kv_size = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    matrix("token_embd.weight", shape["vocab"], shape["hidden"])  # tied: also the output
    vector("output_norm.weight", shape["hidden"])
    for i in range(shape["layers"]):
        vector(f"blk.{i}.attn_norm.weight", shape["hidden"])
        matrix(f"blk.{i}.attn_q.weight", q_size, shape["hidden"])
        matrix(f"blk.{i}.attn_k.weight", kv_size, shape["hidden"])
        matrix(f"blk.{i}.attn_v.weight", kv_size, shape["hidden"])
        matrix(f"blk.{i}.attn_output.weight", shape["hidden"], q_size)
        vector(f"blk.{i}.ffn_norm.weight", shape["hidden"])
        matrix(f"blk.{i}.ffn_gate.weight", shape["inner"], shape["hidden"])
        matrix(f"blk.{i}.ffn_up.weight", shape["inner"], shape["hidden"])
        matrix(f"blk.{i}.ffn_down.weight", shape["hidden"], shape["inner"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
