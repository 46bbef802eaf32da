#include "cli/conversation.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "cli/json_lines.h"
#include "formats/json_reason.h"

namespace kvasir::cli {
namespace {

int64_t context_limit(const Engine& engine, const EngineOptions& options) {
  const int64_t most = engine.info().plan.context;
  return options.context > 0 ? std::min(options.context, most) : most;
}

// A model without a template gets no other prompt behind the user's back.
std::vector<TokenId> tokenize_chat(const Engine& engine, std::span<const ChatMessage> messages) {
  std::string text;
  try {
    text = engine.render_chat(messages, true);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("no chat to be had: {}; --prompt TEXT continues document and text as "
                            "they are",
                            error.message()),
                error.context());
  }
  return engine.tokenize(text, false);
}

}  // namespace

std::string read_documents(const std::vector<std::string>& paths, Environment& environment) {
  std::string text;
  for (const std::string& path : paths) {
    if (!text.empty()) text += text.ends_with('\n') ? "\n" : "\n\n";
    text += read_text(path, environment);
  }
  return text;
}

std::vector<ChatMessage> parse_messages(const std::string& text, const std::string& where) {
  const auto malformed = [&where](std::string message) {
    return Error(ErrorCode::kMalformed, std::move(message), where);
  };
  Json list;
  try {
    list = Json::parse(text);
  } catch (const Json::parse_error& error) {
    const auto byte = std::min(text.size(), error.byte > 0 ? error.byte - 1 : 0);
    const auto begin = text.begin();
    const auto line = 1 + std::count(begin, begin + static_cast<std::ptrdiff_t>(byte), '\n');
    throw malformed(
        fmt::format("line {}: expected JSON; {}", line, formats::json_reason(error.what())));
  }
  if (!list.is_array() || list.empty())
    throw malformed("expected a list of messages {\"role\": ..., \"content\": ...}");
  std::vector<ChatMessage> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& item = list[i];
    for (const char* key : {"role", "content"})
      if (!item.is_object() || !item.contains(key) || !item[key].is_string())
        throw malformed(
            fmt::format("message {}: expected an object with the texts \"role\" and "
                        "\"content\", found {}",
                        i + 1, item.dump().substr(0, 60)));
    for (const auto& [key, value] : item.items())
      if (key != "role" && key != "content")
        throw malformed(
            fmt::format("message {}: unknown key \"{}\"; expected \"role\" and "
                        "\"content\"",
                        i + 1, key));
    messages.push_back({item["role"], item["content"]});
  }
  if (messages.back().role == "assistant")
    throw malformed("expected the last message to be a question, found one of the assistant");
  return messages;
}

PromptMaker::PromptMaker(const Engine& engine, const Options& options, std::string document,
                         std::string document_role, Environment& environment)
    : engine_(engine),
      environment_(environment),
      role_(std::move(document_role)),
      limit_(context_limit(engine, options.engine)),
      policy_(parse_fit(options.run.fit)),
      has_document_(!document.empty()),
      document_(fitter_for(std::move(document))) {}

DocumentFitter PromptMaker::fitter_for(std::string text) const {
  const Engine* engine = &engine_;
  return DocumentFitter(
      std::move(text),
      {.tokenize = [engine](std::string_view t) { return engine->tokenize(t, false); },
       .detokenize = [engine](auto tokens) { return engine->detokenize(tokens, false); }},
      limit_, policy_);
}

std::vector<TokenId> PromptMaker::take(DocumentFitter& fitter, const DocumentFitter::Render& render,
                                       int64_t answer_tokens, int64_t reserve) {
  std::vector<TokenId> tokens = fitter.prompt(render, answer_tokens, reserve);
  if (!fitter.notice().empty()) environment_.note(fitter.notice());
  return tokens;
}

std::vector<ChatMessage> PromptMaker::with_document(
    std::string_view document, const std::vector<ChatMessage>& messages) const {
  std::vector<ChatMessage> all = messages;
  all.insert(all.begin(), ChatMessage{role_, std::string(document)});
  return all;
}

std::vector<TokenId> PromptMaker::chat(std::vector<ChatMessage> messages, int64_t answer_tokens,
                                       int64_t reserve) {
  if (has_document_)
    return take(
        document_,
        [&](std::string_view text) {
          return tokenize_chat(engine_, with_document(text, messages));
        },
        answer_tokens, reserve);
  const auto longest = std::max_element(
      messages.begin(), messages.end(),
      [](const auto& a, const auto& b) { return a.content.size() < b.content.size(); });
  DocumentFitter fitter = fitter_for(longest->content);
  return take(
      fitter,
      [&](std::string_view text) {
        longest->content = text;
        return tokenize_chat(engine_, messages);
      },
      answer_tokens, reserve);
}

std::vector<TokenId> PromptMaker::raw(const std::string& text, int64_t answer_tokens) {
  if (!has_document_) {
    DocumentFitter fitter = fitter_for(text);
    return take(
        fitter, [&](std::string_view part) { return engine_.tokenize(part); }, answer_tokens, 0);
  }
  const auto render = [&](std::string_view part) {
    std::string whole(part);
    if (!text.empty()) whole += (whole.ends_with('\n') ? "\n" : "\n\n") + text;
    return engine_.tokenize(whole);
  };
  return take(document_, render, answer_tokens, 0);
}

std::vector<TokenId> PromptMaker::shared_prefix(int64_t answer_tokens, int64_t reserve) {
  if (!has_document_) return {};
  std::vector<TokenId> one = chat({{"user", "a"}}, answer_tokens, reserve);
  const std::vector<TokenId> two = chat({{"user", "1"}}, answer_tokens, reserve);
  const auto end = std::mismatch(one.begin(), one.end(), two.begin(), two.end()).first;
  one.erase(end, one.end());
  return one;
}

}  // namespace kvasir::cli
