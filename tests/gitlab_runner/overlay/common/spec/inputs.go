// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package spec

// Inputs are the inputs of a job, which this build ignores.
type Inputs struct{}

// InputInterpolationError is an error that this build never returns.
type InputInterpolationError struct{}

func (*InputInterpolationError) Error() string { return "inputs are not built in" }

// UnmarshalJSON ignores the inputs.
func (*Inputs) UnmarshalJSON([]byte) error { return nil }

// SetMetricsCollector does nothing.
func (*Inputs) SetMetricsCollector(*JobInputsMetricsCollector) {}

// ExpandInputs expands nothing.
func ExpandInputs(*Inputs, any) error { return nil }
