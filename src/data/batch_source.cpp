#include "data/batch_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "data/random.h"
#include "data/sha256.h"

namespace kvasir::data {
namespace {

// What a key is drawn for: streams that share their other parts stay apart.
enum Use : uint64_t { kOrder = 1, kRotation, kLengths, kSample, kFill, kEvaluation };

double share_of_books(const Mixture& mixture) {
  double sum = 0, books = 0;
  for (const auto& [source, weight] : mixture) {
    sum += weight;
    if (source == kBooks) books = weight;
  }
  return books / sum;
}

// A task by weight; `unit` in [0, 1).
std::string_view choose_task(const Mixture& mixture, double unit) {
  double sum = 0;
  for (const auto& [source, weight] : mixture) sum += source == kBooks ? 0 : weight;
  double left = unit * sum;
  std::string_view last;
  for (const auto& [source, weight] : mixture) {
    if (source == kBooks) continue;
    last = source;
    if ((left -= weight) < 0) break;
  }
  return last;
}

}  // namespace

StepPlan plan_step(const Recipe& recipe, int64_t step) {
  int64_t first = 0;
  for (size_t i = 0; i < recipe.phases.size(); ++i) {
    const PhaseRecipe& phase = recipe.phases[i];
    if (step < first + phase.steps())
      return {.step = step,
              .phase = static_cast<int64_t>(i),
              .sequence = phase.sequence,
              .sequences = phase.sequences_of_step(),
              .first = (step - first) * phase.sequences_of_step(),
              .learning_rate_scale = phase.learning_rate_scale};
    first += phase.steps();
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("expected a step before {}, found {}", first, step), recipe.name);
}

int64_t Share::passes(const StepPlan& plan) const {
  const int64_t mine = plan.sequences / processes;
  const int64_t at_once = std::max<int64_t>(1, pass_tokens / plan.sequence);
  return (mine + at_once - 1) / at_once;
}

Share::Range Share::pass(const StepPlan& plan, int64_t pass) const {
  const int64_t mine = plan.sequences / processes, all = passes(plan);
  const int64_t first = mine * pass / all, last = mine * (pass + 1) / all;
  return {rank * mine + first, last - first};
}

Result<void> check_share(const Recipe& recipe, const Share& share) {
  for (size_t i = 0; i < recipe.phases.size(); ++i)
    if (recipe.phases[i].sequences_of_step() % share.processes != 0)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("phase[{}].batch_tokens: expected sequences of a step that {} "
                               "processes can share evenly, found {}",
                               i, share.processes, recipe.phases[i].sequences_of_step()),
                   recipe.name);
  return {};
}

BatchSource::BatchSource(Recipe recipe, const Corpus& corpus, const SampleSource& samples,
                         int32_t begin)
    : recipe_(std::move(recipe)), corpus_(&corpus), samples_(&samples), begin_(begin) {
  const auto& held_out = recipe_.data.held_out;
  starts_.push_back(0);
  for (size_t i = 0; i < corpus.size(); ++i) {
    const TokenView& tokens = corpus.tokens(i);
    if (std::binary_search(held_out.begin(), held_out.end(), corpus.name(i))) {
      held_out_.push_back(&tokens);
      continue;
    }
    if (tokens.size() == 0) continue;
    texts_.push_back(&tokens);
    starts_.push_back(starts_.back() + tokens.size());
  }
}

Result<BatchSource> BatchSource::make(Recipe recipe, const Corpus& corpus,
                                      const SampleSource& samples, int32_t begin) {
  for (const std::string& title : recipe.data.held_out)
    if (corpus.find(title) == nullptr)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("data.held_out: expected titles of the corpus, found '{}'", title),
                   recipe.name);
  BatchSource source(std::move(recipe), corpus, samples, begin);
  for (size_t i = 0; i < source.recipe_.phases.size(); ++i) {
    const int64_t sequence = source.recipe_.phases[i].sequence;
    if (source.recipe_.tokenizer.is_tiny || source.training_tokens() >= sequence) continue;
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("phase[{}].sequence: expected at most the {} tokens that the texts to "
                             "train on have, found {}; add texts or shorten the sequence",
                             i, source.training_tokens(), sequence),
                 source.recipe_.name);
  }
  return source;
}

Batch BatchSource::batch(const StepPlan& plan, int64_t first, int64_t count) const {
  KVASIR_CHECK(first >= 0 && count > 0 && first + count <= plan.sequences);
  Batch batch;
  const auto rows = static_cast<size_t>(count * plan.sequence);
  batch.tokens.reserve(rows);
  batch.targets.reserve(rows);
  batch.weights.reserve(rows);
  for (int64_t i = first; i < first + count; ++i) add_sequence(plan, plan.first + i, batch);
  batch.documents.push_back(static_cast<int32_t>(batch.rows()));
  return batch;
}

void BatchSource::add_sequence(const StepPlan& plan, int64_t index, Batch& batch) const {
  // Books are spread evenly: sequence i is one where the number of those before grows.
  const PhaseRecipe& phase = recipe_.phases[static_cast<size_t>(plan.phase)];
  const double share = share_of_books(phase.mixture);
  const auto books_before = [share](int64_t i) {
    return static_cast<int64_t>(share * static_cast<double>(i));
  };
  const int64_t book = books_before(index);
  if (share < 1 && books_before(index + 1) == book) {
    add_samples(plan, index, plan.sequence, batch);
    return;
  }
  const int64_t in_round = training_tokens() / plan.sequence;
  const auto phase_key = static_cast<uint64_t>(plan.phase);
  const auto round = static_cast<uint64_t>(book / in_round);
  const int64_t place =
      permuted(book % in_round, in_round, mix_key({recipe_.seed, kOrder, phase_key, round}));
  // The rest that makes no sequence lies elsewhere in each round.
  const int64_t rotation =
      Random({recipe_.seed, kRotation, phase_key, round}).below(training_tokens());
  add_books(rotation + place * plan.sequence, plan.sequence, batch);
}

void BatchSource::add_samples(const StepPlan& plan, int64_t index, int64_t rows,
                              Batch& batch) const {
  const PhaseRecipe& of_phase = recipe_.phases[static_cast<size_t>(plan.phase)];
  const auto phase = static_cast<uint64_t>(plan.phase), sequence = static_cast<uint64_t>(index);
  Random random({recipe_.seed, kLengths, phase, sequence});
  const bool is_full = random.unit() < recipe_.data.full_fraction;
  const int64_t least = recipe_.data.least_sample;
  int64_t left = rows;
  for (uint64_t number = 0; left >= least || number == 0; ++number) {
    const int64_t most = std::min(left, of_phase.sample_rows());
    SampleRequest request{.task = choose_task(of_phase.mixture, random.unit()),
                          .seed = mix_key({recipe_.seed, kSample, phase, sequence, number}),
                          .most_tokens = most};
    if (!is_full && most > least) request.most_tokens = random.by_doublings(least, most);
    Sample sample = samples_->make(request);
    if (sample.tokens.empty() && request.most_tokens < most) {
      request.most_tokens = most;  // a task that has no short samples
      sample = samples_->make(request);
    }
    if (sample.tokens.empty()) break;
    add_sample(sample, batch);
    left -= static_cast<int64_t>(sample.tokens.size());
    KVASIR_CHECK(left >= 0, "a sample is longer than was asked for");
  }
  if (left == 0) return;
  if (texts_.empty())
    add_padding(left, batch);
  else
    add_books(Random({recipe_.seed, kFill, phase, sequence}).below(training_tokens()), left, batch);
}

// Rows that count nothing.
void BatchSource::add_padding(int64_t rows, Batch& batch) const {
  batch.documents.push_back(static_cast<int32_t>(batch.rows()));
  const size_t size = batch.tokens.size() + static_cast<size_t>(rows);
  batch.tokens.resize(size, begin_);
  batch.targets.resize(size, begin_);
  batch.weights.resize(size, 0.0f);
}

void BatchSource::add_books(int64_t position, int64_t rows, Batch& batch) const {
  position %= training_tokens();
  auto text = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) -
                                  starts_.begin() - 1);
  while (rows > 0) {
    const int64_t first = position - starts_[text];
    const int64_t count = std::min(rows, texts_[text]->size() - first);
    add_text(*texts_[text], first, count, batch);
    rows -= count;
    text = (text + 1) % texts_.size();
    position = starts_[text];
  }
}

void BatchSource::add_text(const TokenView& tokens, int64_t first, int64_t rows,
                           Batch& batch) const {
  batch.documents.push_back(static_cast<int32_t>(batch.rows()));
  const size_t at = batch.targets.size(), count = static_cast<size_t>(rows);
  batch.targets.resize(at + count);
  tokens.copy(first, std::span(batch.targets).subspan(at));
  batch.tokens.push_back(begin_);
  batch.tokens.insert(batch.tokens.end(), batch.targets.end() - rows, batch.targets.end() - 1);
  batch.weights.resize(at + count, 1.0f);
}

void BatchSource::add_sample(const Sample& sample, Batch& batch) const {
  KVASIR_CHECK(sample.tokens.size() == sample.weights.size());
  batch.documents.push_back(static_cast<int32_t>(batch.rows()));
  batch.tokens.push_back(begin_);
  batch.tokens.insert(batch.tokens.end(), sample.tokens.begin(), sample.tokens.end() - 1);
  batch.targets.insert(batch.targets.end(), sample.tokens.begin(), sample.tokens.end());
  batch.weights.insert(batch.weights.end(), sample.weights.begin(), sample.weights.end());
}

// Whether a pass takes so many rows more.
bool BatchSource::has_room(const Batch& batch, int64_t rows) const {
  return batch.rows() + rows <= recipe_.precision.pass_tokens;
}

std::vector<Batch> BatchSource::held_out_books(int64_t length) const {
  std::vector<Batch> batches;
  int64_t left = recipe_.evaluation.book_tokens / length;
  const auto longest =
      std::ranges::max_element(held_out_, {}, [](const TokenView* text) { return text->size(); });
  const int64_t end = longest == held_out_.end() ? 0 : (*longest)->size();
  for (int64_t first = 0; first + length <= end; first += length)  // of each text in turn
    for (const TokenView* text : held_out_) {
      if (first + length > text->size() || left == 0) continue;
      if (batches.empty() || !has_room(batches.back(), length)) batches.emplace_back();
      add_text(*text, first, length, batches.back());
      --left;
    }
  for (Batch& batch : batches) batch.documents.push_back(static_cast<int32_t>(batch.rows()));
  return batches;
}

std::vector<AnswerBatch> BatchSource::held_out_samples(std::string_view task, int64_t length,
                                                       ThreadPool& pool) const {
  const int64_t tokens = recipe_.evaluation.task_tokens;
  const int64_t count = tokens > 0 ? std::max<int64_t>(1, tokens / length) : 0;
  std::vector<Result<Sample>> samples(static_cast<size_t>(count), Sample());
  pool.parallel(count, [&](int64_t i, int) {
    const uint64_t seed = mix_key(
        {recipe_.seed, kEvaluation, static_cast<uint64_t>(length), static_cast<uint64_t>(i)});
    auto& sample = samples[static_cast<size_t>(i)];
    try {
      sample =
          samples_->make({.task = task, .seed = seed, .most_tokens = length, .is_held_out = true});
    } catch (const Error& error) {
      sample = error;
    } catch (const std::exception& error) {
      sample = Error(ErrorCode::kResourceExhausted, error.what(), "preparing an evaluation");
    }
  });
  std::vector<AnswerBatch> batches;
  const auto answer = static_cast<float>(recipe_.data.answer_weight);
  for (Result<Sample>& made : samples) {
    Sample sample = std::move(made).value();
    if (sample.tokens.empty()) continue;
    for (float& weight : sample.weights) weight = weight < answer ? 0 : 1;
    if (batches.empty() ||
        !has_room(batches.back().batch, static_cast<int64_t>(sample.tokens.size())))
      batches.emplace_back();
    add_sample(sample, batches.back().batch);
    auto& hops = batches.back().hops;
    hops.insert(hops.end(), sample.hops.begin(), sample.hops.end());
  }
  for (auto& [batch, hops] : batches) batch.documents.push_back(static_cast<int32_t>(batch.rows()));
  return batches;
}

std::string BatchSource::fingerprint() const {
  const DataRecipe& data = recipe_.data;
  Sha256 hash;
  hash.add(fmt::format("batches 2\n{}\n{}\n{} {} {} {} {} {}\n", corpus_->source(), recipe_.seed,
                       data.least_sample, data.full_fraction, data.question_fraction,
                       data.most_turns, data.context_weight, data.answer_weight));
  for (const std::string& title : data.held_out) hash.add(title + "\n");
  for (const PhaseRecipe& phase : recipe_.phases) {
    hash.add(fmt::format("{} {} {} {}\n", phase.sequence, phase.longest_sample, phase.steps(),
                         phase.batch_tokens));
    for (const auto& [source, weight] : phase.mixture)
      hash.add(fmt::format("{} {}\n", source, weight));
  }
  return hex(hash.digest());
}

}  // namespace kvasir::data
