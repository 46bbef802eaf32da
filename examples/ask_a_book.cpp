// Reads a document once and answers questions about it, over the public API.
//   ask_a_book MODEL_FOLDER DOCUMENT QUESTION...

#include <kvasir/engine.h>

#include <fstream>
#include <iostream>
#include <iterator>

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::cerr << "usage: ask_a_book MODEL_FOLDER DOCUMENT QUESTION...\n";
    return 2;
  }
  const auto engine = kvasir::Engine::load({.model = argv[1]});
  std::ifstream file(argv[2]);
  const std::string document{std::istreambuf_iterator<char>(file), {}};

  // One conversation: every question after the first computes only itself.
  std::vector<kvasir::ChatMessage> messages = {{"system", document}};
  for (int i = 3; i < argc; ++i) {
    messages.push_back({"user", argv[i]});
    kvasir::Request request;
    request.prompt = engine->tokenize_chat(messages, /*add_generation_prompt=*/true);
    request.max_tokens = 64;

    std::string text;
    kvasir::Answer answer = engine->submit(request);
    for (kvasir::Event event; answer.next(event);) {
      std::cout << event.text << std::flush;
      text += event.text;
      if (event.kind == kvasir::Event::Kind::kFinished)
        std::cout << "   [" << event.usage.cached_tokens << " of " << event.usage.prompt_tokens
                  << " prompt tokens were there already]\n";
    }
    messages.push_back({"assistant", text});
  }
} catch (const kvasir::Error& error) {
  std::cerr << "ask_a_book: " << error.what() << "\n";
  return 1;
}
