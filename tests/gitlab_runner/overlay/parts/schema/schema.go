// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package schema has the steps of the keyword run.
package schema

// Step is a step that this build cannot run.
type Step struct{}
