#include "base/thread_pool.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

namespace kvasir::text {

std::vector<TokenId> Tokenizer::Impl::encode(std::string_view text, ThreadPool* pool,
                                             bool parse_special) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = to_valid_utf8(text);
    text = repaired;
  }
  std::vector<TokenId> out;
  std::vector<AddedSpan> spans, inner_spans;
  added.split(text, false, parse_special, spans);
  for (const AddedSpan& span : spans) {
    if (span.id >= 0) {
      out.push_back(span.id);
      continue;
    }
    const std::string_view part = text.substr(span.begin, span.end - span.begin);
    NormalizedText normalized;
    Piece piece{part, span.begin == 0 ? static_cast<size_t>(utf8_size(part[0])) : 0};
    if (!normalizer.is_identity()) {
      normalized = normalizer.apply(part, span.begin == 0);
      piece = {normalized.text, normalized.origin_bytes};
    }
    added.split(piece.text, true, parse_special, inner_spans);
    for (const AddedSpan& inner : inner_spans) {
      if (inner.id >= 0) {
        out.push_back(inner.id);
        continue;
      }
      const size_t origin = piece.origin_bytes > inner.begin ? piece.origin_bytes - inner.begin : 0;
      encode_piece({piece.text.substr(inner.begin, inner.end - inner.begin), origin}, pool, out);
    }
  }
  return out;
}

void Tokenizer::Impl::encode_piece(Piece piece, ThreadPool* pool, std::vector<TokenId>& out) const {
  (void)pool;
  const ScratchPool::Lease lease(scratch);
  BpeScratch& thread = *lease;
  auto encode_word = [&](Piece word) { model.encode(word.text, thread, out); };
  pre_tokenizer.split(piece, PieceSink(encode_word));
}

}  // namespace kvasir::text
