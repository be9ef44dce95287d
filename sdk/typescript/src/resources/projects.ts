// Projects, which own API keys: for keys with the scope `keys:admin`.
import type { Call } from '../call';
import { createProject, deleteProject, listProjects, readProject, updateProject } from '../generated/sdk.gen';
import type {
  CreateProjectData,
  ListProjectsData,
  Project,
  ProjectDeleted,
  UpdateProjectData,
} from '../generated/types.gen';
import type { CallOptions } from '../options';
import { asPagedCall, type PagedCall } from '../page';
import type { Transport } from '../transport';

export type ProjectQuery = Omit<NonNullable<ListProjectsData['query']>, 'before'>;

export class Projects {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  create(body: CreateProjectData['body'], options?: CallOptions): Call<Project> {
    return this.#transport.json((wire) => createProject({ ...wire, body }), options);
  }

  list(query: ProjectQuery = {}, options?: CallOptions): PagedCall<Project> {
    return asPagedCall(query, (place) =>
      this.#transport.json((wire) => listProjects({ ...wire, query: place }), options),
    );
  }

  retrieve(id: string, options?: CallOptions): Call<Project> {
    return this.#transport.json((wire) => readProject({ ...wire, path: { id } }), options);
  }

  update(id: string, body: UpdateProjectData['body'], options?: CallOptions): Call<Project> {
    return this.#transport.json((wire) => updateProject({ ...wire, path: { id }, body }), options);
  }

  /** Erases everything that is stored through it. */
  delete(id: string, options?: CallOptions): Call<ProjectDeleted> {
    return this.#transport.json((wire) => deleteProject({ ...wire, path: { id } }), options);
  }
}
