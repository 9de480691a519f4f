// SPDX-License-Identifier: Apache-2.0
// What each file gives to JavaScript; addon.ts has the signatures.
#pragma once

#include <napi.h>

void exportDescriptors(Napi::Env env, Napi::Object exports);
void exportMaps(Napi::Env env, Napi::Object exports);
void exportBatches(Napi::Env env, Napi::Object exports);
void exportPrograms(Napi::Env env, Napi::Object exports);
void exportLinks(Napi::Env env, Napi::Object exports);
void exportObjects(Napi::Env env, Napi::Object exports);
void exportRingBuffers(Napi::Env env, Napi::Object exports);
void exportNamespaces(Napi::Env env, Napi::Object exports);
void exportWatches(Napi::Env env, Napi::Object exports);
void exportProbes(Napi::Env env, Napi::Object exports);
void exportSockets(Napi::Env env, Napi::Object exports);
void exportUserNamespaces(Napi::Env env, Napi::Object exports);
void exportSystem(Napi::Env env, Napi::Object exports);
