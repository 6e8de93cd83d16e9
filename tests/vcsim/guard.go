// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// guard is a call that holds its object's lock until its task takes it over, and the fault that its task is to end with.
type guard struct {
	unlock func()
	fault  types.BaseMethodFault
}

// watch looks at calls where the simulator is more lenient than a vCenter: it takes any changeVersion, and a name twice.
// What it finds is true until the task has ended: the lock that is taken here is the task's own.
func (c *control) watch(ctx *simulator.Context, method *simulator.Method) {
	if ctx.Session == nil {
		return // refused later
	}
	switch object := ctx.Map.Get(method.This).(type) {
	case *simulator.VirtualMachine:
		if req, ok := method.Body.(*types.ReconfigVM_Task); ok {
			c.sign(req.Spec.DeviceChange)
			if req.Spec.ChangeVersion != "" || changesHardware(&req.Spec) {
				c.hold(ctx, object, func() types.BaseMethodFault { return objection(object, &req.Spec) })
			}
		}
		if req, ok := method.Body.(*types.CloneVM_Task); ok && req.Spec.Config != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.clones[ctx] = req.Spec.Config
		}
	case *simulator.Folder:
		if req, ok := method.Body.(*types.CreateVM_Task); ok {
			c.hold(ctx, object, func() types.BaseMethodFault {
				if there := ctx.Map.FindByName(req.Config.Name, object.ChildEntity); there != nil {
					return &types.DuplicateName{Name: req.Config.Name, Object: there.Reference()}
				}
				return nil
			})
		}
	case *simulator.VirtualDiskManager:
		if req, ok := method.Body.(*types.SetVirtualDiskUuid); ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.uuids[req.Name] = dashed(req.Uuid)
		}
	case *simulator.AuthorizationManager:
		ctx.Session.Registry.Put(&denyingManager{object, c})
	}
}

// complete gives a clone what the simulator forgets of its configuration: whether it can be added to while it runs.
func (c *control) complete(task *simulator.Task) {
	ctx := simulator.TaskContext(task)
	c.mu.Lock()
	config := c.clones[ctx]
	delete(c.clones, ctx)
	c.mu.Unlock()
	if config == nil {
		return
	}
	work := task.Execute
	task.Execute = func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) {
		result, fault := work(t)
		if ref, ok := result.(types.ManagedObjectReference); ok && fault == nil {
			vm := ctx.Map.Get(ref).(*simulator.VirtualMachine)
			vm.Config.CpuHotAddEnabled, vm.Config.MemoryHotAddEnabled = config.CpuHotAddEnabled, config.MemoryHotAddEnabled
		}
		return result, fault
	}
}

func changesHardware(spec *types.VirtualMachineConfigSpec) bool {
	return spec.NumCPUs != 0 || spec.MemoryMB != 0 || len(spec.DeviceChange) != 0
}

// objection is what a vCenter has against a change of a machine: that it is not what it was, that it is suspended, or runs.
func objection(vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if spec.ChangeVersion != "" && spec.ChangeVersion != vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	if vm.Runtime.PowerState == types.VirtualMachinePowerStateSuspended && changesHardware(spec) {
		return &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: vm.Runtime.PowerState,
		}
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return nil
	}
	hardware := vm.Config.Hardware
	cpus, memory := spec.NumCPUs != 0 && spec.NumCPUs != hardware.NumCPU, spec.MemoryMB != 0 && spec.MemoryMB != int64(hardware.MemoryMB)
	adds := func(flag *bool) bool { return flag != nil && *flag }
	switch {
	case cpus && (!adds(vm.Config.CpuHotAddEnabled) || spec.NumCPUs < hardware.NumCPU):
		return &types.CpuHotPlugNotSupported{}
	case memory && (!adds(vm.Config.MemoryHotAddEnabled) || spec.MemoryMB < int64(hardware.MemoryMB)):
		return &types.MemoryHotPlugNotSupported{}
	}
	return nil
}

// sign gives disks that are put into a machine the uuids that were set of them: the simulator forgets these.
func (c *control) sign(changes []types.BaseVirtualDeviceConfigSpec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		backing, ok := change.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok {
			continue
		}
		if uuid, known := c.uuids[backing.FileName]; known {
			backing.Uuid = uuid
		}
	}
}

// dashed is a uuid as vCenter shows it of a disk that is in a machine.
func dashed(uuid string) string {
	digits := strings.NewReplacer(" ", "", "-", "").Replace(uuid)
	if len(digits) != 32 {
		return uuid
	}
	return strings.ToUpper(digits[:8]) + "-" + strings.Join([]string{digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

func (c *control) hold(ctx *simulator.Context, object mo.Reference, check func() types.BaseMethodFault) {
	held := &guard{unlock: ctx.Map.AcquireLock(ctx, object)}
	held.fault = check()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guards[ctx] = held
}

// release ends a call's hold when its task is made: by then the call has the lock in its own right.
func (c *control) release(task *simulator.Task) {
	ctx := simulator.TaskContext(task)
	c.mu.Lock()
	held := c.guards[ctx]
	delete(c.guards, ctx)
	c.mu.Unlock()
	if held == nil {
		return
	}
	if held.fault != nil {
		task.Execute = func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, held.fault }
	}
	held.unlock()
}

type denyingManager struct {
	*simulator.AuthorizationManager
	control *control
}

func (m *denyingManager) granted(privilege string) bool {
	m.control.mu.Lock()
	defer m.control.mu.Unlock()
	return !m.control.denied[privilege]
}

func (m *denyingManager) available(entities []types.ManagedObjectReference, ids []string) []types.EntityPrivilege {
	var found []types.EntityPrivilege
	for _, entity := range entities {
		privileges := types.EntityPrivilege{Entity: entity}
		for _, id := range ids {
			one := types.PrivilegeAvailability{PrivId: id, IsGranted: m.granted(id)}
			privileges.PrivAvailability = append(privileges.PrivAvailability, one)
		}
		found = append(found, privileges)
	}
	return found
}

// HasPrivilegeOnEntities says of each privilege whether this session has it.
func (m *denyingManager) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	found := m.available(req.Entity, req.PrivId)
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: found}}
}

// HasUserPrivilegeOnEntities says of each privilege whether a user has it.
func (m *denyingManager) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	found := m.available(req.Entities, req.PrivId)
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{Returnval: found}}
}

// FetchUserPrivilegeOnEntities lists the privileges that a user has.
func (m *denyingManager) FetchUserPrivilegeOnEntities(req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	body := m.AuthorizationManager.FetchUserPrivilegeOnEntities(req).(*methods.FetchUserPrivilegeOnEntitiesBody)
	for i, result := range body.Res.Returnval {
		var left []string
		for _, id := range result.Privileges {
			if m.granted(id) {
				left = append(left, id)
			}
		}
		body.Res.Returnval[i].Privileges = left
	}
	return body
}
