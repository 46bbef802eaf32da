#include "eval/documents.h"

#include <algorithm>

#include "base/file.h"

namespace kvasir::eval {

std::vector<std::filesystem::path> document_files(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

std::vector<std::string> load_documents(const std::filesystem::path& path) {
  std::vector<std::string> texts;
  for (const std::filesystem::path& file : document_files(path))
    texts.push_back(read_file(file).value());
  return texts;
}

}  // namespace kvasir::eval
