// An attribute of objects of a type that is written in C.
#pragma once

#include <pybind11/pybind11.h>

namespace ppo {

namespace py = pybind11;

// By the function that the type has for it: that takes a fifth of the way by its name, which is left for everything else.
class CAttribute {
 public:
  CAttribute(const py::type& type, const char* name) : name_(name), descriptor_(type.attr(name)) {
    PyObject* const descriptor = descriptor_.ptr();
    if (Py_TYPE(descriptor) != &PyGetSetDescr_Type) return;
    owner_ = PyDescr_TYPE(descriptor);
    get_ = reinterpret_cast<PyGetSetDescrObject*>(descriptor)->d_getset;
  }

  py::object of(const py::handle& object) const {
    if (get_ == nullptr || !PyObject_TypeCheck(object.ptr(), owner_)) return object.attr(name_);
    PyObject* const value = get_->get(object.ptr(), get_->closure);
    if (value == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(value);
  }

 private:
  py::str name_;
  py::object descriptor_;
  PyTypeObject* owner_ = nullptr;  // whose objects the function takes
  const PyGetSetDef* get_ = nullptr;
};

}  // namespace ppo
