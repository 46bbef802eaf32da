#pragma once
// Python's str on UTF-8 text: characters are code points. Bytes that are not UTF-8 count as one
// character each and are carried through unchanged.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvasir::text::jinja {

// The code point at `*at`, which moves behind it. A byte that starts no valid sequence gives
// 0xDC00 + byte (Python's surrogateescape). Precondition: *at < text.size().
char32_t next_char(std::string_view text, size_t* at);
void append_char(std::string& text, char32_t character);  // surrogates take three bytes
size_t count_chars(std::string_view text);
std::vector<std::string_view> split_chars(std::string_view text);
// Where the text stops being UTF-8, if it does.
std::optional<size_t> find_invalid_utf8(std::string_view text);

bool is_space(char32_t character);       // str.isspace
bool is_word(char32_t character);        // \w: letters, marks, numbers, underscore
bool is_printable(char32_t character);   // str.isprintable
bool is_alphabetic(char32_t character);  // str.isalpha
bool is_digit(char32_t character);       // str.isdigit, decimal digits only
bool is_upper(char32_t character);
bool is_lower(char32_t character);
bool is_mark(char32_t character);  // combining marks and connecting punctuation
// str.isupper and str.islower: some cased character, and none of the other case.
bool is_upper_text(std::string_view text);
bool is_lower_text(std::string_view text);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);        // str.title
std::string title_words(std::string_view text);  // Jinja's filter `title`
std::string swap_case(std::string_view text);

enum class Side { kBoth, kLeft, kRight };
// Without `characters`: white space.
std::string_view strip(std::string_view text, Side side,
                       std::optional<std::string_view> characters = std::nullopt);

// Linear-time search; npos where `needle` is not in text[from..].
size_t find_text(std::string_view text, std::string_view needle, size_t from = 0);
size_t rfind_text(std::string_view text, std::string_view needle);
std::string replace_all(std::string_view text, std::string_view from, std::string_view to,
                        int64_t count = -1);
// Non-overlapping occurrences.
size_t count_text(std::string_view text, std::string_view needle);

std::vector<std::string_view> split_space(std::string_view text, int64_t max_splits);
std::vector<std::string_view> rsplit_space(std::string_view text, int64_t max_splits);
std::vector<std::string_view> split_on(std::string_view text, std::string_view separator,
                                       int64_t max_splits);
std::vector<std::string_view> rsplit_on(std::string_view text, std::string_view separator,
                                        int64_t max_splits);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

std::string quote(std::string_view text);        // Python's repr of a str
std::string escape_html(std::string_view text);  // & < > ' "
std::string format_float(double number);         // Python's repr of a float

}  // namespace kvasir::text::jinja
