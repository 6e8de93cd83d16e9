// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package steps has the types of the step runner, which this build does not have.
package steps

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/parts/client"
	"gitlab.com/gitlab-org/gitlab-runner/parts/schema"
)

// ErrNoStepRunnerButOkay is an error that this build never returns.
var ErrNoStepRunnerButOkay = errors.New("no step runner")

type Connector interface {
	Connect(ctx context.Context) (func() (io.ReadWriteCloser, error), error)
}

type JobInfo struct {
	ID         int64
	Timeout    time.Duration
	ProjectDir string
	Variables  spec.Variables
}

type Options struct {
	Connector      Connector
	JobInfo        JobInfo
	Steps          []schema.Step
	Trace          io.Writer
	RegisterCancel func(context.CancelFunc)
	Log            *logrus.Entry
}

type ClientStatusError struct {
	Status client.Status
	Err    error
}

func (e *ClientStatusError) Error() string { return e.Err.Error() }

type ClientInternalError struct{ Err error }

func (e *ClientInternalError) Error() string { return e.Err.Error() }

// Execute fails.
func Execute(context.Context, Options) error {
	return errors.New("the step runner is not built in")
}
