#include <algorithm>
#include <exception>
#include <optional>

#include "base/thread_pool.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

namespace kvasir::text {

namespace {

constexpr size_t kMinChunkBytes = 16 << 10;
// How many words of a chunk are tried to find where the text before joins it.
constexpr size_t kMaxJoinWords = 1024;

// How many chunks a text of `size` bytes is worth for this pool; 1: none.
size_t chunk_count(size_t size, const ThreadPool* pool) {
  if (pool == nullptr || pool->size() < 2) return 1;
  return std::clamp<size_t>(size / kMinChunkBytes, 1, static_cast<size_t>(pool->size()) * 4);
}

// Runs task(i) for each i on the pool and rethrows the first failure: a pool's body must not throw.
template <class Task>
void run_tasks(ThreadPool& pool, size_t count, const Task& task) {
  std::vector<std::exception_ptr> failures(count);
  pool.parallel(static_cast<int64_t>(count), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    try {
      task(i);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  });
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

// Cuts `size` bytes where cut(from, at_least) says, runs encode(begin, end, ids) on the parts and
// joins the ids. False, and nothing done, where there is only one part.
template <class Cut, class Encode>
bool run_parts(size_t size, ThreadPool& pool, const Cut& cut, std::vector<TokenId>& out,
               const Encode& encode) {
  const size_t stride = size / chunk_count(size, &pool);
  std::vector<size_t> cuts{0};
  while (cuts.back() < size) cuts.push_back(cut(cuts.back(), stride));
  if (cuts.size() == 2) return false;
  std::vector<std::vector<TokenId>> parts(cuts.size() - 1);
  run_tasks(pool, parts.size(), [&](size_t i) { encode(cuts[i], cuts[i + 1], parts[i]); });
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return true;
}

// What a thread made of a chunk. It began at a guessed place, so its first words may be wrong; from
// the first place on where the text before also ends a word, they are right.
struct Chunk {
  size_t begin = 0, end = 0;  // the first match that ends at or behind `end` is the last
  std::vector<TokenId> ids;
  struct Join {
    size_t text_at, ids_at;
  };
  std::vector<Join> joins;  // ends of the first words
  size_t reached = 0;       // the end of the last one
};

}  // namespace

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
      encode_piece(piece.part(inner.begin, inner.end), pool, out);
    }
  }
  return out;
}

void Tokenizer::Impl::encode_piece(Piece piece, ThreadPool* pool, std::vector<TokenId>& out) const {
  if (chunk_count(piece.text.size(), pool) > 1) {
    if (pre_tokenizer.first_pattern() != nullptr) return encode_chunks(piece, *pool, out);
    if (encode_parts(piece, *pool, out)) return;
  }
  const ScratchPool::Lease lease(scratch, *model);
  ModelScratch& thread = *lease;
  auto encode_word = [&](Piece word) {
    if (chunk_count(word.text.size(), pool) > 1 && encode_word_parts(word.text, *pool, out)) return;
    model->encode(word.text, thread, out);
  };
  pre_tokenizer.split(piece, PieceSink(encode_word));
}

bool Tokenizer::Impl::encode_parts(Piece piece, ThreadPool& pool, std::vector<TokenId>& out) const {
  const auto cut = [&](size_t from, size_t at_least) {
    return pre_tokenizer.safe_cut(piece.text, from + at_least);
  };
  return run_parts(piece.text.size(), pool, cut, out, [&](size_t begin, size_t end, auto& ids) {
    const ScratchPool::Lease lease(scratch, *model);
    auto encode_word = [&](Piece word) { model->encode(word.text, *lease, ids); };
    pre_tokenizer.split(piece.part(begin, end), PieceSink(encode_word));
  });
}

bool Tokenizer::Impl::encode_word_parts(std::string_view word, ThreadPool& pool,
                                        std::vector<TokenId>& out) const {
  const auto cut = [&](size_t from, size_t at_least) {
    return model->safe_cut(word, from, at_least);
  };
  return run_parts(word.size(), pool, cut, out, [&](size_t begin, size_t end, auto& ids) {
    const ScratchPool::Lease lease(scratch, *model);
    model->encode(word.substr(begin, end - begin), *lease, ids);
  });
}

// The matches of an expression from a place on depend on that place alone. So every chunk is worked
// on from a guessed place, and afterwards joined at the first word end that the text before shares.
void Tokenizer::Impl::encode_chunks(Piece piece, ThreadPool& pool,
                                    std::vector<TokenId>& out) const {
  const std::string_view text = piece.text;
  const size_t count = chunk_count(text.size(), &pool);
  std::vector<Chunk> chunks(count);
  for (size_t i = 0; i < count; ++i) {
    size_t begin = text.size() / count * i;
    while (begin < text.size() && is_utf8_continuation(text[begin])) ++begin;
    chunks[i].begin = begin;
    if (i > 0) chunks[i - 1].end = begin;
  }
  chunks.back().end = text.size();
  // Encodes words from `from` on, until `done(end)` holds for the end of a match or gap.
  const auto encode_from = [&](size_t from, std::vector<TokenId>& ids, const auto& done) {
    const ScratchPool::Lease lease(scratch, *model);
    auto encode_word = [&](Piece word) { model->encode(word.text, *lease, ids); };
    const auto encode_range = [&](size_t begin, size_t end) {
      if (begin == end) return;
      pre_tokenizer.split_after_first(piece.part(begin, end), PieceSink(encode_word));
    };
    Pattern::Matches matches(*pre_tokenizer.first_pattern(), text, from);
    size_t begin = 0, end = 0;
    while (from < text.size()) {
      const bool found = matches.next(begin, end);
      encode_range(from, found ? begin : text.size());
      if (found) encode_range(begin, end);
      from = found ? end : text.size();
      if (done(from)) break;
    }
    return from;
  };
  run_tasks(pool, count, [&](size_t i) {
    Chunk& chunk = chunks[i];
    chunk.reached = encode_from(chunk.begin, chunk.ids, [&](size_t at) {
      if (chunk.joins.size() < kMaxJoinWords) chunk.joins.push_back({at, chunk.ids.size()});
      return at >= chunk.end;
    });
  });
  size_t at = 0;  // up to here `out` is right
  for (const Chunk& chunk : chunks) {
    if (at >= chunk.end) continue;
    std::optional<size_t> ids_at;
    const auto joins_here = [&](size_t place) {
      const auto join = std::ranges::lower_bound(chunk.joins, place, {}, &Chunk::Join::text_at);
      if (join != chunk.joins.end() && join->text_at == place) ids_at = join->ids_at;
      return ids_at.has_value() || place >= chunk.end;
    };
    if (at == chunk.begin) {
      ids_at = 0;
    } else if (!joins_here(at)) {
      at = encode_from(at, out, joins_here);
    }
    if (!ids_at) continue;
    out.insert(out.end(), chunk.ids.begin() + static_cast<std::ptrdiff_t>(*ids_at),
               chunk.ids.end());
    at = chunk.reached;
  }
}

}  // namespace kvasir::text
