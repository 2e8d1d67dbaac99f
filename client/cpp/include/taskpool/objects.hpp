#pragma once

#include "taskpool/batch.hpp"
#include "taskpool/buffer.hpp"
#include "taskpool/cells.hpp"
#include "taskpool/client.hpp"
#include "taskpool/dict.hpp"
#include "taskpool/list.hpp"
#include "taskpool/queue.hpp"
#include "taskpool/synchronize.hpp"

/// The shared store: objects that all programs of a user, and the tasks that they run, see under the same names.
///
///     auto client = taskpool::Client::connect().value();
///     auto scores = client.dict<std::string, int>("scores").value();
///     (void)scores.set("ada", 1);
///     (void)scores.incr("ada", 41);
///     int now = scores.at("ada").value();                  // 42, read from shared memory
///
///     auto lock = client.lock("scores.lock").value();
///     const std::lock_guard guard{lock};                   // given back also if this process dies
///
/// Inside a task, Context::client() is the client.
namespace taskpool {

template <class K, class V>
Result<Dict<K, V>> Client::dict(const std::string& name, const ObjectOptions& options) const {
  return open_as<Dict<K, V>>({.type = store::ObjectType::dict}, name, options);
}

template <class T>
Result<List<T>> Client::list(const std::string& name, const ObjectOptions& options) const {
  return open_as<List<T>>({.type = store::ObjectType::list}, name, options);
}

template <class T>
Result<Value<T>> Client::value(const std::string& name, const T& initial, const ObjectOptions& options) const {
  ObjectSpec spec;
  spec.type = store::ObjectType::value;
  auto encoded = encode_stored(initial);
  if (!encoded) return encoded.error();
  spec.initial = std::move(*encoded);
  return open_as<Value<T>>(std::move(spec), name, options);
}

template <ArrayElement T>
Result<Array<T>> Client::array(const std::string& name, std::size_t length, const ObjectOptions& options) const {
  ObjectSpec spec;
  spec.type = store::ObjectType::array;
  spec.typecode = array_encoding<T>();
  spec.length = length;
  auto array = open_as<Array<T>>(std::move(spec), name, options);
  if (!array) return array;
  if (auto same = array->check(length); !same) return same.error();
  return array;
}

template <class T>
Result<Queue<T>> Client::queue(const std::string& name, std::size_t maxsize, const ObjectOptions& options) const {
  ObjectSpec spec;
  spec.type = store::ObjectType::queue;
  spec.maxsize = maxsize;
  return open_as<Queue<T>>(std::move(spec), name, options);
}

template <class T>
Result<JoinableQueue<T>> Client::joinable_queue(const std::string& name, std::size_t maxsize,
                                                const ObjectOptions& options) const {
  ObjectSpec spec;
  spec.type = store::ObjectType::joinable_queue;
  spec.maxsize = maxsize;
  return open_as<JoinableQueue<T>>(std::move(spec), name, options);
}

template <class T>
Result<T> Client::open(const ObjectRef& ref) const {
  auto object = open_ref(ref);
  if (!object) return object.error();
  return T{std::move(*object)};
}

template <class T>
Result<T> Client::open_as(ObjectSpec spec, const std::string& name, const ObjectOptions& options) const {
  auto object = open_object(name, spec, options);
  if (!object) return object.error();
  return T{std::move(*object)};
}

}  // namespace taskpool
