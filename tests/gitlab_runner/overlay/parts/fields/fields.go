// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package fields has the names of fields in the log.
package fields

const (
	HTTPStatusCode = "status_code"
	DurationS      = "duration_s"
)

// Field is a field with another name than before.
type Field struct{ Standard string }

var (
	Deprecated     = map[string]Field{}
	VariantVersion = map[string]int{}
)
