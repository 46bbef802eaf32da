// temporary
#include <algorithm>
#include <cmath>
#include <map>
#include "engine/loop.h"
#include "engine/sampler.h"
namespace kvasir { const char* finish_reason_name(FinishReason r) { switch (r) { case FinishReason::kStop: return "stop"; case FinishReason::kLength: return "length"; case FinishReason::kCancelled: return "cancelled"; default: return "error"; } } }
namespace kvasir::engine {
Result<void> check_sampling(const SamplingOptions&) { return {}; }
Sampler::Sampler(const SamplingOptions& o, int s, int64_t) : options_(o), sample_(s) {}
void Sampler::add_prompt(std::span<const TokenId>) {}
void Sampler::add_answer(TokenId) {}
SampleResult Sampler::sample(std::span<const float> l, int64_t, int) { return {TokenId(std::max_element(l.begin(), l.end()) - l.begin()), 0, {}}; }
Event EventStream::next() { std::unique_lock k(mutex_); changed_.wait(k, [&] { return !events_.empty(); }); Event e = std::move(events_.front()); events_.pop_front(); return e; }
std::optional<Event> EventStream::try_next() { std::lock_guard k(mutex_); if (events_.empty()) return {}; Event e = std::move(events_.front()); events_.pop_front(); return e; }
bool EventStream::wait_for(std::chrono::milliseconds t) { std::unique_lock k(mutex_); return changed_.wait_for(k, t, [&] { return !events_.empty() || closed_; }); }
bool EventStream::ended() const { std::lock_guard k(mutex_); return closed_ && events_.empty(); }
void EventStream::push(Event e, bool last) { { std::lock_guard k(mutex_); events_.push_back(std::move(e)); closed_ |= last; } changed_.notify_all(); }
struct Loop::Impl {
  Executor& ex; kv::KvManager& kv; LoopOptions o;
  struct Job { RequestId id; Request r; std::shared_ptr<EventStream> s; double t0, t1 = 0, tf = 0; kv::SequenceId q; bool open = false; int64_t done = 0, cached = 0, n = 0; TokenId next = -1; std::unique_ptr<Detokenizer> d; bool cancel = false; uint64_t ps = 0, pc = 0, ds = 0, dc = 0; };
  std::mutex m; std::condition_variable cv; std::map<RequestId, std::shared_ptr<Job>> jobs; RequestId ids = 1; bool stop = false; std::thread th; CancelToken* token = nullptr;
  double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
  bool step(Loop& l) {
    std::vector<std::shared_ptr<Job>> js; CancelToken tk;
    { std::lock_guard k(m); for (auto& [i, j] : jobs) js.push_back(j); token = &tk; }
    Step st; std::vector<Job*> who; st.cancel = &tk; st.deterministic = o.deterministic; int64_t room = o.step_tokens;
    auto fin = [&](Job& j, FinishReason r) {
      Event e; e.kind = Event::Kind::kFinished; e.text = j.d->finish(); e.finish_reason = r; e.usage = {(int64_t)j.r.prompt.size(), j.cached, j.n};
      const double t = now(); e.timing = {j.tf - j.t1, j.tf - j.t0, t - j.tf, j.n > 1 ? (j.n - 1) / (t - j.tf) : 0};
      e.attention = {"dense", "plain", "dense", j.pc ? double(j.ps) / j.pc : 0, j.dc ? double(j.ds) / j.dc : 0, ""};
      if (j.open) kv.release(j.q, true);
      j.s->push(e, true); std::lock_guard k(m); jobs.erase(j.id);
    };
    for (auto& j : js) {
      if (j->cancel) { fin(*j, FinishReason::kCancelled); continue; }
      if (!j->open) { j->q = kv.open(o.domain, j->r.prompt); j->open = true; j->cached = j->done = kv.length(j->q); j->t1 = now(); }
      if (room <= 0) continue;
      const int64_t P = j->r.prompt.size(); const bool pre = j->done < P; const int64_t c = pre ? std::min({P - j->done, o.chunk_tokens, room}) : 1;
      if (!kv.reserve(j->q, j->done + c)) { fin(*j, FinishReason::kError); continue; }
      room -= c; StepSpan sp; sp.tokens = pre ? std::span<const TokenId>(j->r.prompt).subspan(j->done, c) : std::span<const TokenId>(&j->next, 1);
      sp.first_position = j->done; sp.is_prefill = pre; sp.rope_length = pre ? P : j->done + 1; sp.logits = (!pre || j->done + c == P) ? StepSpan::Logits::kLast : StepSpan::Logits::kNone;
      st.spans.push_back(sp); who.push_back(j.get());
    }
    if (st.spans.empty()) return false;
    for (size_t i = 0; i < who.size(); ++i) for (int L = 0; L < kv.geometry().layers; ++L) st.spans[i].page_tables.push_back(kv.page_table(who[i]->q, L).data());
    auto r = ex.run(st); { std::lock_guard k(m); token = nullptr; }
    if (!r) return true;
    for (size_t i = 0; i < who.size(); ++i) {
      Job& j = *who[i]; auto& sp = st.spans[i]; auto& sr = r.value().spans[i]; std::vector<TokenId> tk2(sp.tokens.begin(), sp.tokens.end());
      kv.commit(j.q, tk2); j.done += tk2.size(); (sp.is_prefill ? j.ps : j.ds) += sr.scored_pairs; (sp.is_prefill ? j.pc : j.dc) += sr.causal_pairs;
      if (sp.is_prefill) { Event e; e.prompt_done = j.done; e.prompt_total = j.r.prompt.size(); j.s->push(e, false); }
      if (sr.logits.empty()) continue;
      if (!j.n) j.tf = now();
      j.next = std::max_element(sr.logits.begin(), sr.logits.end()) - sr.logits.begin(); ++j.n;
      const bool end = std::count(o.end_tokens.begin(), o.end_tokens.end(), j.next);
      Event e; e.kind = Event::Kind::kToken; e.token = j.next; if (!end) e.text = j.d->push(j.next); j.s->push(e, false);
      if (end || j.n >= j.r.max_tokens) fin(j, end ? FinishReason::kStop : FinishReason::kLength);
    }
    return true;
  }
};
Loop::Loop(Executor& e, kv::KvManager& k, LoopOptions o) : impl_(new Impl{e, k, std::move(o), {}, {}, {}, 1, false, {}, nullptr}) {}
Loop::~Loop() { { std::lock_guard k(impl_->m); impl_->stop = true; if (impl_->token) impl_->token->cancel(); } impl_->cv.notify_all(); if (impl_->th.joinable()) impl_->th.join(); }
Result<Submission> Loop::submit(Request r) { auto j = std::make_shared<Impl::Job>(); j->r = std::move(r); j->s = std::make_shared<EventStream>(); j->t0 = impl_->now(); j->d = impl_->o.make_detokenizer(); std::lock_guard k(impl_->m); j->id = impl_->ids++; impl_->jobs[j->id] = j; impl_->cv.notify_all(); return Submission{j->id, j->s}; }
void Loop::cancel(RequestId id) { std::lock_guard k(impl_->m); if (auto f = impl_->jobs.find(id); f != impl_->jobs.end()) { f->second->cancel = true; if (impl_->token) impl_->token->cancel(); } }
void Loop::start() { impl_->th = std::thread([this] { for (;;) { { std::unique_lock k(impl_->m); impl_->cv.wait(k, [&] { return impl_->stop || !impl_->jobs.empty(); }); if (impl_->stop) return; } impl_->step(*this); } }); }
bool Loop::step() { return impl_->step(*this); }
}
