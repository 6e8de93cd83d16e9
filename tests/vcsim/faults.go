// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// rule is what happens to calls of one method: Skip of them are let through, Times are hit; none more when it is 0.
// At says where: "call" instead of the call, "task" instead of the task's work, "after" when that is done.
type rule struct {
	Method    string  `json:"method"`
	Fault     string  `json:"fault"`
	At        string  `json:"at"`
	Privilege string  `json:"privilege"`
	Object    string  `json:"object"`
	Datastore string  `json:"datastore"`
	Delay     float64 `json:"delay"`
	Times     int     `json:"times"`
	Skip      int     `json:"skip"`
}

func (r *rule) check() error {
	if r.Fault != "" && r.fault() == nil {
		return fmt.Errorf("no fault is called %s", r.Fault)
	}
	return nil
}

// fault makes the fault that the rule names, with what it is told to hold.
func (r *rule) fault() types.BaseMethodFault {
	object := types.ManagedObjectReference{Type: "Folder", Value: "group-d1"}
	if kind, value, ok := strings.Cut(r.Object, ":"); ok {
		object = types.ManagedObjectReference{Type: kind, Value: value}
	}
	permission := types.NoPermission{Object: &object, PrivilegeId: r.Privilege}
	switch r.Fault {
	case "":
		return nil
	case "NoPermission":
		return &permission
	case "NotAuthenticated":
		permission.PrivilegeId = "System.View"
		return &types.NotAuthenticated{NoPermission: permission}
	case "NoDiskSpace":
		return &types.NoDiskSpace{FileFault: types.FileFault{File: "disk.vmdk"}, Datastore: r.Datastore}
	case "DuplicateName":
		return &types.DuplicateName{Name: "taken", Object: object}
	case "InvalidPowerState":
		off, on := types.VirtualMachinePowerStatePoweredOff, types.VirtualMachinePowerStatePoweredOn
		return &types.InvalidPowerState{RequestedState: on, ExistingState: off}
	}
	kind, ok := types.TypeFunc()(r.Fault)
	if !ok {
		return nil
	}
	fault, _ := reflect.New(kind).Interface().(types.BaseMethodFault)
	return fault
}

// match takes the rule that hits this call, and counts it.
func (c *control) match(method, at string) *rule {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.rules {
		if action(r.Method) != action(method) || r.At != at {
			continue
		}
		if r.Skip > 0 {
			r.Skip--
			continue
		}
		if r.Times == 1 {
			c.rules = append(c.rules[:i:i], c.rules[i+1:]...)
		}
		if r.Times > 1 {
			r.Times--
		}
		return r
	}
	return nil
}

// action is what a method and its task have in common: CloneVM_Task makes the task cloneVm.
func action(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "_Task"))
	return strings.TrimSuffix(name, "vm")
}

// sabotage puts a failure in the place of a task's work, or after it.
func (c *control) sabotage(task *simulator.Task) {
	work := task.Execute
	if r := c.match(task.Info.Name, "task"); r != nil {
		task.Execute = func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) {
			time.Sleep(time.Duration(r.Delay * float64(time.Second)))
			if fault := r.fault(); fault != nil {
				return nil, fault
			}
			return work(t)
		}
	} else if r := c.match(task.Info.Name, "after"); r != nil {
		task.Execute = func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) {
			if _, fault := work(t); fault != nil {
				return nil, fault
			}
			return nil, r.fault()
		}
	}
}
