#include "engine/answer_text.h"

#include <algorithm>

namespace kvasir::engine {
namespace {

// Characters at the end of `text` that `stop` could go on from: its longest proper prefix there.
size_t open_end(std::string_view text, std::string_view stop) {
  for (size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size)
    if (text.ends_with(stop.substr(0, size))) return size;
  return 0;
}

}  // namespace

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t first = std::string::npos, end = std::string::npos;  // of the stop string found
  size_t open = 0;
  for (const std::string& stop : stops_) {
    open = std::max(open, open_end(held_, stop));
    const size_t found = held_.find(stop);
    if (found == std::string::npos) continue;
    const size_t found_end = found + stop.size();
    if (found_end < end || (found_end == end && found < first)) {
      first = found;
      end = found_end;
    }
  }
  stopped_ = end != std::string::npos;
  const size_t certain = stopped_ ? first : held_.size() - open;
  std::string out = held_.substr(0, certain);
  held_.erase(0, stopped_ ? held_.size() : certain);
  return out;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

std::string AnswerText::finish() {
  std::string text = matcher_.push(detokenizer_->finish());
  return text + matcher_.finish();
}

}  // namespace kvasir::engine
