// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package client has the results of the step runner.
package client

type Status struct{ ErrorKind int }

const (
	ErrorInternal = iota
	ErrorStepFailure
	ErrorCancelled
	ErrorTimeout
	ErrorUnknown
)
