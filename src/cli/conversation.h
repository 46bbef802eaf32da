#pragma once
// What one invocation of `kvasir run` asks: the document, the messages around it, and the prompts
// that come of them.

#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/fit.h"

namespace kvasir::cli {

// The documents, joined by a blank line; empty where none are given.
std::string read_documents(const std::vector<std::string>& paths, Environment& environment);

// [{"role": ..., "content": ...}, ...], the last one the user's. `where` names it in errors.
std::vector<ChatMessage> parse_messages(const std::string& json, const std::string& where);

// Prompts of one document for one model.
class PromptMaker {
 public:
  // `document` may be empty.
  PromptMaker(const Engine& engine, const Options& options, std::string document,
              std::string document_role, Environment& environment);

  // Document and `messages` through the chat template, ready for an answer. Without a document the
  // longest message is what --fit shortens.
  std::vector<TokenId> chat(std::vector<ChatMessage> messages, int64_t answer_tokens,
                            int64_t reserve = 0);
  // Document, a blank line and `text`, without a template.
  std::vector<TokenId> raw(const std::string& text, int64_t answer_tokens);
  // The tokens that every chat prompt of this document begins with; may be empty.
  std::vector<TokenId> shared_prefix(int64_t answer_tokens, int64_t reserve);

  int64_t limit() const { return limit_; }

 private:
  std::vector<ChatMessage> with_document(std::string_view document,
                                         const std::vector<ChatMessage>& messages) const;
  DocumentFitter fitter_for(std::string text) const;
  std::vector<TokenId> take(DocumentFitter& fitter, const DocumentFitter::Render& render,
                            int64_t answer_tokens, int64_t reserve);

  const Engine& engine_;
  Environment& environment_;
  std::string role_;
  int64_t limit_;
  FitPolicy policy_;
  bool has_document_;
  DocumentFitter document_;
};

}  // namespace kvasir::cli
