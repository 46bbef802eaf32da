#pragma once
// The script of a character, as the pre-tokeniser UnicodeScripts sees it.

namespace kvasir::text {

// No script: the space, and characters that the table does not know.
constexpr int kAnyScript = 0;

// A number for each script, and one for all common characters. As SentencePiece does, Hiragana,
// Katakana and the prolonged sound mark count as Han. Unicode 9 (an older table, kept so that parts
// equal those of the package `tokenizers`).
int sentencepiece_script(char32_t code_point);

}  // namespace kvasir::text
